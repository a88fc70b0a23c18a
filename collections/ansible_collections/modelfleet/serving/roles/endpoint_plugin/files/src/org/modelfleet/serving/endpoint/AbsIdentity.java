package org.modelfleet.serving.endpoint;

import com.google.gson.JsonObject;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * The managed identity of an Azure machine, and Entra's applications for the tokens of another authority; either is had a user delegation
 * key for. As in Microsoft's documentation of managed identities, of the client credentials flow and of "Get User Delegation Key".
 */
final class AbsIdentity extends Identity {
    private static final String RESOURCE = "https://storage.azure.com/";
    private static final Map<String, String> LOGIN = Map.of(
            "core.usgovcloudapi.net", "https://login.microsoftonline.us",
            "core.chinacloudapi.cn", "https://login.partner.microsoftonline.cn");
    private static final Pattern NUMBER = Pattern.compile("(AADSTS[0-9]+)");
    private static final Pattern CODE = Pattern.compile("<Code>([^<]*)</Code>");
    /** As Microsoft advises for clocks that differ. */
    private static final Duration EARLIER = Duration.ofMinutes(15);

    private final String account;
    private final String version;
    private final String tenant;
    private final String client;
    private final String tokenPath;
    private final Renewed<Token> tokens = new Renewed<>(this::token);
    private final Renewed<DelegationKey> keys = new Renewed<>(this::issue);

    /**
     * @param account URL of the storage account
     * @param version of the service, with which a SAS is signed
     * @param suffix domain of the cloud
     */
    AbsIdentity(Settings settings, String place, String account, String version, String suffix) throws EndpointException {
        super(settings, List.of("instance", "web_identity"), place,
                "Use it on an Azure machine, with its address in modelfleet_firewall_destinations, and the addresses of the storage account",
                "http://169.254.169.254", LOGIN.getOrDefault(suffix, "https://login.microsoftonline.com"));
        this.account = account;
        this.version = version;
        tenant = ofInstance ? "" : settings.name("tenant_id");
        client = ofInstance ? settings.name("client_id", "") : settings.name("client_id");
        tokenPath = ofInstance ? "" : settings.required("token_path");
    }

    /** What signs, and what a SAS says of it, in the order in which it is signed. */
    static final class DelegationKey implements Issued {
        final byte[] value;
        final List<String> signed;
        private final Instant expires;

        private DelegationKey(byte[] value, List<String> signed, Instant expires) {
            this.value = value;
            this.signed = signed;
            this.expires = expires;
        }

        @Override
        public Instant expires() {
            return expires;
        }
    }

    DelegationKey current(Instant now) throws EndpointException {
        return keys.get(now);
    }

    /** A key that lives as long as the token for which the account gives it. */
    private DelegationKey issue(Instant now) throws EndpointException {
        Token token = tokens.get(now);
        String body = String.format(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><KeyInfo><Start>%s</Start><Expiry>%s</Expiry></KeyInfo>",
                now.minus(EARLIER).truncatedTo(ChronoUnit.SECONDS), token.expires().truncatedTo(ChronoUnit.SECONDS));
        Answer answer = post(
                account, "/?restype=service&comp=userdelegationkey",
                Map.of("Authorization", "Bearer " + token.value, "x-ms-version", version, "Content-Type", "application/xml"), body);
        if (answer.status == 403) {
            throw error(
                    account, "the identity may not have a user delegation key " + answer.said(CODE),
                    "Give it the role Storage Blob Data Reader on the account, or Storage Blob Delegator there and Reader on the container,"
                            + " and check the firewall of the account and the clock");
        }
        if (!answer.good()) {
            throw error(account, "it gives no user delegation key " + answer.said(CODE), "Check account_name, endpoint and the clock");
        }
        List<String> signed = new ArrayList<>();
        for (String name : List.of("SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService", "SignedVersion")) {
            signed.add(element(answer.text, name));
        }
        byte[] value;
        try {
            value = Base64.getDecoder().decode(element(answer.text, "Value"));
        } catch (IllegalArgumentException e) {
            value = new byte[0];
        }
        if (value.length == 0 || signed.contains("")) {
            throw error(account, "it answers with something else than a user delegation key", "Check endpoint");
        }
        return new DelegationKey(value, signed, expiry(signed.get(3), now));
    }

    private Token token(Instant now) throws EndpointException {
        JsonObject found = json(ofInstance ? ofMachine() : forToken());
        String value = text(found, "access_token");
        if (!value.matches("[!-~]+")) {
            throw unusable();
        }
        return new Token(value, lifetime(text(found, "expires_in"), now));
    }

    private Answer ofMachine() throws EndpointException {
        Map<String, String> query = new LinkedHashMap<>();
        query.put("api-version", "2018-02-01");
        query.put("resource", RESOURCE);
        if (!client.isEmpty()) {
            query.put("client_id", client);
        }
        Answer answer = askInstance("GET", "/metadata/identity/oauth2/token?" + form(query), Map.of("Metadata", "true"));
        if (answer.status == 400) {
            throw error(
                    "this machine has no such managed identity (400)",
                    "Assign one to it that may read the container; of several, name one in identity.client_id");
        }
        if (!answer.good()) {
            throw noSession(answer);
        }
        return answer;
    }

    private Answer forToken() throws EndpointException {
        Map<String, String> form = new LinkedHashMap<>();
        form.put("client_id", client);
        form.put("scope", RESOURCE + ".default");
        form.put("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        form.put("client_assertion", webToken());
        form.put("grant_type", "client_credentials");
        Answer answer = postForm("/" + tenant + "/oauth2/v2.0/token", form);
        if (answer.good()) {
            return answer;
        }
        String said = answer.said(NUMBER);
        if (said.contains("AADSTS700024")) {
            throw error("the token in " + tokenPath + " has expired " + said, "Have whoever writes it renew it, and check the clock");
        }
        if (said.contains("AADSTS70021") || said.contains("AADSTS50027")) {
            throw error(
                    "it does not accept the token in " + tokenPath + " " + said,
                    "Check the federated credential of the application: issuer, subject and audience are those of the token");
        }
        throw error("it refuses " + said, "Check object_storage.identity.tenant_id and client_id");
    }
}
