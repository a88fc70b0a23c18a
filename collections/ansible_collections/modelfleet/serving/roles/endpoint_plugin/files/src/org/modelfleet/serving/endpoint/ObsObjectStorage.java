package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Huawei Cloud OBS: its own signature in the query string, or the one of S3. */
final class ObsObjectStorage implements ObjectStorage {
    private static final List<String> PARAMETERS = List.of("AccessKeyId", "Expires", "Signature", "x-obs-security-token");

    private final String bucket;
    private final String accessKeyId;
    private final String secretAccessKey;
    private final String securityToken;
    private final Location location;
    /** Null when OBS' own signature is wanted. */
    private final AwsSigner signer;

    ObsObjectStorage(Settings settings) throws EndpointException {
        bucket = settings.name("bucket_name");
        // Files for other programs call the keys as S3 does.
        accessKeyId = settings.requiredOneOf("access_key_id", "access_key");
        secretAccessKey = settings.requiredOneOf("secret_access_key", "secret_key");
        securityToken = settings.optional("security_token", "");
        Keys keys = new Keys(accessKeyId, secretAccessKey, securityToken, null);
        boolean own = "obs".equals(settings.choice("signature", "obs", List.of("obs", "v4")));
        // Huawei's own clients write the token's name in lower case.
        signer = own
                ? null
                : new AwsSigner(settings.name("region"), now -> keys, "x-amz-security-token", Map.of());
        String region = settings.name("region", "");
        Location server = region.isEmpty()
                ? settings.server("endpoint")
                : settings.server("endpoint", "obs." + region + ".myhuaweicloud." + ("eu-west-101".equals(region) ? "eu" : "com"));
        boolean pathStyle = settings.flag("path_style") || server.isAddress();
        location = pathStyle ? server.folder(bucket) : server.subdomain(bucket);
    }

    @Override
    public URI presignGet(String key, Instant now, long expirySeconds) throws EndpointException {
        if (signer != null) {
            return signer.presignGet(location, key, now, expirySeconds);
        }
        String expires = Long.toString(now.getEpochSecond() + expirySeconds);
        // The name is signed encoded, the token is not.
        String resource = UrlEncoding.path("/" + bucket + "/" + key);
        if (!securityToken.isEmpty()) {
            resource += "?x-obs-security-token=" + securityToken;
        }
        Map<String, String> parameters = new HashMap<>(Map.of(
                "AccessKeyId", accessKeyId,
                "Expires", expires,
                "Signature", Hmac.sha1Base64(secretAccessKey, String.join("\n", "GET", "", "", expires, resource))));
        if (!securityToken.isEmpty()) {
            parameters.put("x-obs-security-token", securityToken);
        }
        return location.url(key, SignatureV4.canonicalQuery(parameters));
    }

    @Override
    public List<String> signatureParameters() {
        return signer == null ? PARAMETERS : signer.parameters();
    }

    @Override
    public String describe(String key) {
        return "obs://" + bucket + "/" + key;
    }

    @Override
    public String adviceWhenRefused() {
        return "Check credentials, region and clock.";
    }
}
