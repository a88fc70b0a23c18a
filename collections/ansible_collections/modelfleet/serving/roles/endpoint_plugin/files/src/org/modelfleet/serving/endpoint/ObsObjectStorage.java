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
    private final Keys.Source source;
    private final boolean renews;
    private final Location location;
    /** Null when OBS' own signature is wanted. */
    private final AwsSigner signer;

    ObsObjectStorage(Settings settings) throws EndpointException {
        bucket = settings.name("bucket_name");
        renews = settings.has("identity");
        if (renews) {
            Identity.refuseKeys(settings, "access_key_id", "access_key", "secret_access_key", "secret_key", "security_token");
            ObsIdentity identity = new ObsIdentity(settings.section("identity"), "obs://" + bucket);
            source = identity::current;
        } else {
            // Files for other programs call the keys as S3 does.
            Keys keys = new Keys(
                    settings.requiredOneOf("access_key_id", "access_key"), settings.requiredOneOf("secret_access_key", "secret_key"),
                    settings.optional("security_token", ""), null);
            source = now -> keys;
        }
        boolean own = "obs".equals(settings.choice("signature", "obs", List.of("obs", "v4")));
        // Huawei's own clients write the token's name in lower case.
        signer = own
                ? null
                : new AwsSigner(settings.name("region"), source, "x-amz-security-token", Map.of());
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
        Keys keys = source.at(now);
        String expires = Long.toString(now.getEpochSecond() + keys.signedSeconds(expirySeconds, now));
        // The name is signed encoded, the token is not.
        String resource = UrlEncoding.path("/" + bucket + "/" + key);
        if (!keys.token.isEmpty()) {
            resource += "?x-obs-security-token=" + keys.token;
        }
        Map<String, String> parameters = new HashMap<>(Map.of(
                "AccessKeyId", keys.accessKey,
                "Expires", expires,
                "Signature", Hmac.sha1Base64(keys.secretKey, String.join("\n", "GET", "", "", expires, resource))));
        if (!keys.token.isEmpty()) {
            parameters.put("x-obs-security-token", keys.token);
        }
        return location.url(key, SignatureV4.canonicalQuery(parameters));
    }

    @Override
    public long signedSeconds(long expirySeconds, Instant now) throws EndpointException {
        return source.at(now).signedSeconds(expirySeconds, now);
    }

    @Override
    public boolean renews() {
        return renews;
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
