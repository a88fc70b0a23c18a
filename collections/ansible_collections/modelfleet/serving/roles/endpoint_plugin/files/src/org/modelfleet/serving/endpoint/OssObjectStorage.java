package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Alibaba Cloud OSS: signature version 4 or 1 in the query string. */
final class OssObjectStorage implements ObjectStorage {
    private static final String ALGORITHM = "OSS4-HMAC-SHA256";
    private static final List<String> V4_PARAMETERS = List.of(
            "x-oss-signature-version", "x-oss-credential", "x-oss-date", "x-oss-expires", "x-oss-security-token", "x-oss-signature");
    private static final List<String> V1_PARAMETERS = List.of("OSSAccessKeyId", "Expires", "Signature", "security-token");
    /** Two letters and a hyphen keep out oss-accelerate.aliyuncs.com, which is no region. */
    private static final Pattern REGIONAL = Pattern.compile("oss-([a-z]{2}-[a-z0-9-]+?)(-internal)?\\.aliyuncs\\.com");

    private final String bucket;
    private final Keys.Source source;
    private final boolean renews;
    private final String region;
    private final boolean version4;
    private final Location location;

    OssObjectStorage(Settings settings) throws EndpointException {
        bucket = settings.name("bucket_name");
        renews = settings.has("identity");
        if (renews) {
            Identity.refuseKeys(settings, "access_key_id", "access_key_secret", "security_token");
            OssIdentity identity = new OssIdentity(settings.section("identity"), "oss://" + bucket);
            source = identity::current;
        } else {
            Keys keys = new Keys(
                    settings.required("access_key_id"), settings.required("access_key_secret"), settings.optional("security_token", ""), null);
            source = now -> keys;
        }
        String given = settings.name("region", "");
        Location server = given.isEmpty()
                ? settings.server("endpoint")
                : settings.server("endpoint", "oss-" + given + ".aliyuncs.com");
        region = given.isEmpty() ? regionOf(server) : given;
        version4 = "v4".equals(settings.choice("signature_version", region.isEmpty() ? "v1" : "v4", List.of("v4", "v1")));
        if (version4 && region.isEmpty()) {
            throw settings.error("region", "is missing: signature version 4 needs it, and the endpoint does not tell it");
        }
        location = server.isAddress() ? server.folder(bucket) : server.subdomain(bucket);
    }

    private static String regionOf(Location server) {
        Matcher matcher = REGIONAL.matcher(server.host);
        return matcher.matches() ? matcher.group(1) : "";
    }

    @Override
    public URI presignGet(String key, Instant now, long expirySeconds) throws EndpointException {
        Keys keys = source.at(now);
        long seconds = keys.signedSeconds(expirySeconds, now);
        return version4 ? presignV4(key, now, seconds, keys) : presignV1(key, now.plusSeconds(seconds), keys);
    }

    @Override
    public long signedSeconds(long expirySeconds, Instant now) throws EndpointException {
        return source.at(now).signedSeconds(expirySeconds, now);
    }

    @Override
    public boolean renews() {
        return renews;
    }

    private URI presignV4(String key, Instant now, long expirySeconds, Keys keys) {
        String timestamp = SignatureV4.timestamp(now);
        String scope = timestamp.substring(0, 8) + "/" + region + "/oss/aliyun_v4_request";
        Map<String, String> parameters = new HashMap<>(Map.of(
                "x-oss-signature-version", ALGORITHM,
                "x-oss-credential", keys.accessKey + "/" + scope,
                "x-oss-date", timestamp,
                "x-oss-expires", Long.toString(expirySeconds)));
        if (!keys.token.isEmpty()) {
            parameters.put("x-oss-security-token", keys.token);
        }
        String query = SignatureV4.canonicalQuery(parameters);
        // Neither the host nor any other header is signed; the bucket is, wherever the URL has it.
        String path = UrlEncoding.path("/" + bucket + "/" + key);
        String request = String.join("\n", "GET", path, query, "", "", "UNSIGNED-PAYLOAD");
        String toSign = SignatureV4.stringToSign(ALGORITHM, timestamp, scope, request);
        return location.url(key, query + "&x-oss-signature=" + SignatureV4.sign("aliyun_v4" + keys.secretKey, scope, toSign));
    }

    private URI presignV1(String key, Instant expiry, Keys keys) {
        String expires = Long.toString(expiry.getEpochSecond());
        // Unlike version 4 it signs the name and the token as they are, not encoded.
        String resource = "/" + bucket + "/" + key + (keys.token.isEmpty() ? "" : "?security-token=" + keys.token);
        Map<String, String> parameters = new HashMap<>(Map.of(
                "OSSAccessKeyId", keys.accessKey,
                "Expires", expires,
                "Signature", Hmac.sha1Base64(keys.secretKey, String.join("\n", "GET", "", "", expires, resource))));
        if (!keys.token.isEmpty()) {
            parameters.put("security-token", keys.token);
        }
        return location.url(key, SignatureV4.canonicalQuery(parameters));
    }

    @Override
    public List<String> signatureParameters() {
        return version4 ? V4_PARAMETERS : V1_PARAMETERS;
    }

    @Override
    public String describe(String key) {
        return "oss://" + bucket + "/" + key;
    }

    @Override
    public String adviceWhenRefused() {
        return "Check credentials, region and clock.";
    }
}
