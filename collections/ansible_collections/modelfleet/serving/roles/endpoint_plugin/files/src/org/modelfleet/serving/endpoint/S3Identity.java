package org.modelfleet.serving.endpoint;

import com.google.gson.JsonObject;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * The role of an EC2 instance, by version 2 of its metadata service, and STS's AssumeRoleWithWebIdentity. As in the EC2 User Guide, "Use
 * the Instance Metadata Service", and in the API reference of STS.
 */
final class S3Identity extends RoleIdentity {
    private static final Pattern CODE = Pattern.compile("<Code>([^<]*)</Code>");

    private final String role;
    private final String tokenPath;

    S3Identity(Settings settings, String place, String sts) throws EndpointException {
        super(settings, place,
                "Use it on an EC2 instance, with its metadata service on and a hop limit (HttpPutResponseHopLimit) of as many as there are"
                        + " networks between, and with its address in modelfleet_firewall_destinations",
                "http://169.254.169.254", sts);
        role = ofInstance ? "" : settings.required("role_arn");
        tokenPath = ofInstance ? "" : settings.required("token_path");
    }

    @Override
    Keys ofInstance(Instant now) throws EndpointException {
        JsonObject found = role(
                "X-aws-ec2-metadata-token", "/latest/meta-data/iam/security-credentials/",
                "Attach an instance profile whose role may read the bucket", "ec2.amazonaws.com");
        return keys(text(found, "AccessKeyId"), text(found, "SecretAccessKey"), text(found, "Token"), text(found, "Expiration"), now);
    }

    @Override
    Keys forToken(Instant now) throws EndpointException {
        Map<String, String> form = new LinkedHashMap<>();
        form.put("Action", "AssumeRoleWithWebIdentity");
        form.put("Version", "2011-06-15");
        form.put("RoleArn", role);
        form.put("RoleSessionName", "modelfleet");
        form.put("WebIdentityToken", webToken());
        Answer answer = postForm("/", form);
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
            return expired(tokenPath, said);
        }
        if (said.contains("InvalidIdentityToken") || said.contains("IDPRejectedClaim")) {
            return notAccepted(
                    tokenPath, said,
                    "Check the identity provider in IAM: its URL is the token's issuer, and the token's audience is among its audiences");
        }
        if (answer.status == 401 || answer.status == 403) {
            return notAllowed(tokenPath, role, said);
        }
        return error("it refuses " + said, "Check object_storage.identity.role_arn and the endpoint of STS");
    }
}
