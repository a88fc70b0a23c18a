package org.modelfleet.serving.endpoint;

import com.google.gson.JsonObject;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * The service account of a machine at Google, and workload identity federation. As in Google Cloud's documentation: "About VM metadata",
 * the method token of the Security Token Service, and signBlob of the IAM Service Account Credentials API. Nobody has a key: IAM signs,
 * with one of its own that is good for 12 hours at least.
 */
final class GcsIdentity extends Identity {
    static final long SIGNED_SECONDS = 12 * 3600;
    private static final String ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/";
    private static final Pattern ERROR = Pattern.compile("\"error\" *: *\"([^\"]*)\"");
    private static final Pattern STATUS = Pattern.compile("\"status\" *: *\"([A-Z_]+)\"");

    private final String audience;
    private final String tokenPath;
    private final String iam;
    private String email;
    private final Renewed<Token> tokens = new Renewed<>(this::issue);

    GcsIdentity(Settings settings, String place) throws EndpointException {
        super(settings, List.of("instance", "web_identity"), place,
                "Use it on a machine of Google Cloud with a service account, and with its address in modelfleet_firewall_destinations, and"
                        + " those of iamcredentials.googleapis.com",
                "http://169.254.169.254", "https://sts.googleapis.com");
        audience = ofInstance ? "" : settings.required("audience");
        email = ofInstance ? "" : settings.required("service_account");
        tokenPath = ofInstance ? "" : settings.required("token_path");
        iam = base(settings.server("iam_endpoint", "https://iamcredentials.googleapis.com"));
    }

    /** Whose signatures these are. */
    synchronized String email() throws EndpointException {
        if (email.isEmpty()) {
            String found = askMachine("email").text.strip();
            if (!found.matches("[A-Za-z0-9._-]+@[A-Za-z0-9.-]+")) {
                throw unusable();
            }
            email = found;
        }
        return email;
    }

    byte[] sign(String text, Instant now) throws EndpointException {
        String payload = Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
        Answer answer = post(
                iam, "/v1/projects/-/serviceAccounts/" + email() + ":signBlob",
                Map.of("Authorization", "Bearer " + tokens.get(now).value, "Content-Type", "application/json"),
                Json.write(Map.of("payload", payload)));
        if (List.of(401, 403, 404).contains(answer.status)) {
            throw error(
                    iam, "the identity may not sign as " + email() + " " + answer.said(STATUS),
                    "Give it the role Service Account Token Creator on that service account, which of a machine is the account itself, have"
                            + " the IAM Service Account Credentials API enabled, and the machine the access scope cloud-platform");
        }
        try {
            byte[] signature = Base64.getDecoder().decode(answer.good() ? text(json(answer), "signedBlob") : "");
            if (signature.length > 0) {
                return signature;
            }
        } catch (IllegalArgumentException e) {
            // The one message below serves both.
        }
        throw error(iam, "it gives no signature of " + email() + " " + answer.said(STATUS), "Check object_storage.identity.iam_endpoint");
    }

    private Token issue(Instant now) throws EndpointException {
        JsonObject found = json(ofInstance ? askMachine("token") : exchange());
        String value = text(found, "access_token");
        if (!value.matches("[!-~]+")) {
            throw unusable();
        }
        return new Token(value, lifetime(text(found, "expires_in"), now));
    }

    private Answer askMachine(String what) throws EndpointException {
        Answer answer = askInstance("GET", ACCOUNT + what, Map.of("Metadata-Flavor", "Google"));
        if (answer.status == 404) {
            throw error("this machine has no service account (404)", "Attach one that may read the bucket");
        }
        if (!answer.good()) {
            throw noSession(answer);
        }
        return answer;
    }

    private Answer exchange() throws EndpointException {
        Map<String, String> form = new LinkedHashMap<>();
        form.put("audience", audience);
        form.put("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
        form.put("requested_token_type", "urn:ietf:params:oauth:token-type:access_token");
        form.put("scope", "https://www.googleapis.com/auth/cloud-platform");
        form.put("subject_token_type", "urn:ietf:params:oauth:token-type:jwt");
        form.put("subject_token", webToken());
        Answer answer = postForm("/v1/token", form);
        if (answer.good()) {
            return answer;
        }
        String said = answer.said(ERROR);
        if (answer.text.contains("is stale") || (said.contains("invalid_grant") && answer.text.contains("expired"))) {
            throw error("the token in " + tokenPath + " has expired " + said, "Have whoever writes it renew it, and check the clock");
        }
        if (said.contains("invalid_grant") || said.contains("unauthorized_client") || said.contains("access_denied")) {
            throw error(
                    "it does not accept the token in " + tokenPath + " " + said,
                    "Check the provider of the pool: its issuer is the token's, the token's audience is allowed, and its condition and"
                            + " mapping fit the token's claims");
        }
        throw error("it refuses " + said, "Check object_storage.identity.audience");
    }
}
