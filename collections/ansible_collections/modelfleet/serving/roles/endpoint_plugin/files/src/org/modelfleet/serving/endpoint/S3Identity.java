package org.modelfleet.serving.endpoint;

import com.google.gson.JsonObject;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * The role of an EC2 instance, by version 2 of its metadata service, and STS's AssumeRoleWithWebIdentity. As in the EC2 User Guide, "Use
 * the Instance Metadata Service", and in the API reference of STS.
 */
final class S3Identity extends Identity {
    private static final String LIST = "/latest/meta-data/iam/security-credentials/";
    private static final Pattern CODE = Pattern.compile("<Code>([^<]*)</Code>");

    private final String role;
    private final String tokenPath;
    private final Renewed<Keys> renewed = new Renewed<>(this::issue);

    S3Identity(Settings settings, String place, String sts) throws EndpointException {
        super(settings, List.of("instance", "web_identity"), place,
                "Use it on an EC2 instance, with its metadata service on and a hop limit (HttpPutResponseHopLimit) of as many as there are"
                        + " networks between, and with its address in modelfleet_firewall_destinations",
                "http://169.254.169.254", sts);
        role = ofInstance ? "" : settings.required("role_arn");
        tokenPath = ofInstance ? "" : settings.required("token_path");
    }

    Keys current(Instant now) throws EndpointException {
        return renewed.get(now);
    }

    private Keys issue(Instant now) throws EndpointException {
        return ofInstance ? ofInstance(now) : forToken(now);
    }

    private Keys ofInstance(Instant now) throws EndpointException {
        Answer session = session("/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds");
        if (session.status == 403) {
            throw error("its metadata service is off (403)", "Switch it on for this instance (HttpEndpoint: enabled)");
        }
        if (!session.good()) {
            throw noSession(session);
        }
        Map<String, String> headers = Map.of("X-aws-ec2-metadata-token", session.text);
        Answer roles = askInstance("GET", LIST, headers);
        if (roles.status == 404 || (roles.good() && roles.text.isBlank())) {
            throw error("no role is attached to this instance", "Attach an instance profile whose role may read the bucket");
        }
        String name = roles.text.strip().split("\n", 2)[0].strip();
        if (!roles.good() || !name.matches("[A-Za-z0-9_+=,.@-]{1,128}")) {
            throw unusable();
        }
        Answer answer = askInstance("GET", LIST + name, headers);
        if (!answer.good()) {
            throw error("it gives nothing for the role " + name + " (" + answer.status + ")", "Check the role in the instance profile");
        }
        JsonObject found = json(answer);
        if (found.has("Code") && !"Success".equals(text(found, "Code"))) {
            throw error("the role " + name + " cannot be assumed", "Let the service ec2.amazonaws.com assume that role");
        }
        return keys(text(found, "AccessKeyId"), text(found, "SecretAccessKey"), text(found, "Token"), text(found, "Expiration"), now);
    }

    private Keys forToken(Instant now) throws EndpointException {
        Map<String, String> form = new LinkedHashMap<>();
        form.put("Action", "AssumeRoleWithWebIdentity");
        form.put("Version", "2011-06-15");
        form.put("RoleArn", role);
        form.put("RoleSessionName", "modelfleet");
        form.put("WebIdentityToken", webToken());
        Answer answer = post(url(), "/", Map.of("Content-Type", "application/x-www-form-urlencoded"), form(form));
        if (!answer.good()) {
            throw refusal(answer);
        }
        return keys(
                element(answer.text, "AccessKeyId"), element(answer.text, "SecretAccessKey"), element(answer.text, "SessionToken"),
                element(answer.text, "Expiration"), now);
    }

    private EndpointException refusal(Answer answer) {
        String said = answer.said(CODE);
        if (said.contains("ExpiredToken")) {
            return error("the token in " + tokenPath + " has expired " + said, "Have whoever writes it renew it, and check the clock");
        }
        if (said.contains("InvalidIdentityToken") || said.contains("IDPRejectedClaim")) {
            return error(
                    "it does not accept the token in " + tokenPath + " " + said,
                    "Check the identity provider in IAM: its URL is the token's issuer, and the token's audience is among its audiences");
        }
        if (answer.status == 401 || answer.status == 403) {
            return error(
                    "it does not let the token in " + tokenPath + " assume " + role + " " + said,
                    "Allow its subject and audience in the trust policy there");
        }
        return error("it refuses " + said, "Check object_storage.identity.role_arn and the endpoint of STS");
    }
}
