package org.modelfleet.serving.endpoint;

import com.google.gson.JsonObject;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Pattern;

/**
 * The RAM role of an ECS instance, by the security hardening mode of its metadata service, and STS's AssumeRoleWithOIDC, which needs no
 * signature. As in the documentation of Alibaba Cloud, "Instance metadata" and "AssumeRoleWithOIDC".
 */
final class OssIdentity extends RoleIdentity {
    private static final Pattern CODE = Pattern.compile("\"Code\" *: *\"([^\"]*)\"");

    private final String role;
    private final String provider;
    private final String tokenPath;

    OssIdentity(Settings settings, String place) throws EndpointException {
        super(settings, place,
                "Use it on an ECS instance, with its metadata service on and its address in modelfleet_firewall_destinations",
                "http://100.100.100.200", "https://sts.aliyuncs.com");
        role = ofInstance ? "" : settings.required("role_arn");
        provider = ofInstance ? "" : settings.required("oidc_provider_arn");
        tokenPath = ofInstance ? "" : settings.required("token_path");
    }

    @Override
    Keys ofInstance(Instant now) throws EndpointException {
        return keys(
                role("X-aliyun-ecs-metadata-token", "/latest/meta-data/ram/security-credentials/",
                        "Attach a RAM role to it that may read the bucket", "ecs.aliyuncs.com"),
                now);
    }

    private Keys keys(JsonObject found, Instant now) throws EndpointException {
        return keys(
                text(found, "AccessKeyId"), text(found, "AccessKeySecret"), text(found, "SecurityToken"), text(found, "Expiration"), now);
    }

    @Override
    Keys forToken(Instant now) throws EndpointException {
        Map<String, String> query = new LinkedHashMap<>();
        query.put("Action", "AssumeRoleWithOIDC");
        query.put("Format", "JSON");
        query.put("Version", "2015-04-01");
        query.put("Timestamp", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
        query.put("SignatureNonce", UUID.randomUUID().toString());
        Map<String, String> form = new LinkedHashMap<>();
        form.put("RoleArn", role);
        form.put("OIDCProviderArn", provider);
        form.put("RoleSessionName", "modelfleet");
        form.put("OIDCToken", webToken());
        Answer answer = postForm("/?" + form(query), form);
        if (!answer.good()) {
            throw refusal(answer);
        }
        JsonObject found = json(answer);
        if (!found.has("Credentials") || !found.get("Credentials").isJsonObject()) {
            throw unusable();
        }
        return keys(found.getAsJsonObject("Credentials"), now);
    }

    private EndpointException refusal(Answer answer) {
        String said = answer.said(CODE);
        if (said.contains("OIDCToken.Expired")) {
            return expired(tokenPath, said);
        }
        if (said.contains("OIDCToken")) {
            return notAccepted(
                    tokenPath, said,
                    "Check the identity provider in RAM: its issuer is the token's, the token's audience is among its client IDs, and its"
                            + " fingerprint is that of the issuer's certificate");
        }
        if (answer.status == 401 || answer.status == 403) {
            return notAllowed(tokenPath, role, said);
        }
        return error("it refuses " + said, "Check object_storage.identity.role_arn, oidc_provider_arn and the clock");
    }
}
