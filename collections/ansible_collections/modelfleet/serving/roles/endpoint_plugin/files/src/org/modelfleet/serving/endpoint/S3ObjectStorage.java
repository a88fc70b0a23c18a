package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** S3 and what speaks its protocol: AWS Signature Version 4 in the query string. */
final class S3ObjectStorage implements ObjectStorage {
    private static final DateTimeFormatter TIMESTAMP = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);
    private static final String ALGORITHM = "AWS4-HMAC-SHA256";

    private final String bucket;
    private final String region;
    private final String accessKey;
    private final String secretKey;
    private final String sessionToken;
    private final String host;
    private final String pathPrefix;

    S3ObjectStorage(Settings settings) throws EndpointException {
        bucket = settings.required("bucket_name");
        region = settings.optional("region", "us-east-1");
        accessKey = settings.required("access_key");
        secretKey = settings.required("secret_key");
        sessionToken = settings.optional("session_token", "");
        String endpointHost = endpointHost(settings);
        // A name with dots does not fit the wildcard certificate of a store, and an address takes no subdomain.
        boolean pathStyle = settings.flag("path_style") || bucket.contains(".") || isAddress(endpointHost);
        host = pathStyle ? endpointHost : bucket + "." + endpointHost;
        pathPrefix = pathStyle ? "/" + bucket + "/" : "/";
    }

    private String endpointHost(Settings settings) throws EndpointException {
        String endpoint = settings.optional("endpoint", "");
        if (endpoint.isEmpty()) {
            return "s3." + region + ".amazonaws.com" + (region.startsWith("cn-") ? ".cn" : "");
        }
        URI uri = settings.url("endpoint", endpoint.contains("://") ? endpoint : "https://" + endpoint);
        boolean defaultPort = uri.getPort() == -1 || uri.getPort() == ("http".equals(uri.getScheme()) ? 80 : 443);
        return defaultPort ? uri.getHost() : uri.getHost() + ":" + uri.getPort();
    }

    private static boolean isAddress(String host) {
        return host.startsWith("[") || host.matches("[0-9.]+(:[0-9]+)?");
    }

    @Override
    public String describe(String key) {
        return "s3://" + bucket + "/" + key;
    }

    @Override
    public URI presignGet(String key, Instant now, long expirySeconds) {
        String timestamp = TIMESTAMP.format(now);
        String date = timestamp.substring(0, 8);
        String scope = date + "/" + region + "/s3/aws4_request";
        String path = UrlEncoding.path(pathPrefix + key);

        Map<String, String> query = new TreeMap<>();
        query.put("X-Amz-Algorithm", ALGORITHM);
        query.put("X-Amz-Credential", accessKey + "/" + scope);
        query.put("X-Amz-Date", timestamp);
        query.put("X-Amz-Expires", Long.toString(expirySeconds));
        query.put("X-Amz-SignedHeaders", "host");
        if (!sessionToken.isEmpty()) {
            query.put("X-Amz-Security-Token", sessionToken);
        }
        String canonicalQuery = query.entrySet().stream()
                .map(e -> UrlEncoding.value(e.getKey()) + "=" + UrlEncoding.value(e.getValue()))
                .collect(Collectors.joining("&"));

        String canonicalRequest = String.join("\n", "GET", path, canonicalQuery, "host:" + host, "", "host", "UNSIGNED-PAYLOAD");
        String toSign = String.join("\n", ALGORITHM, timestamp, scope, Hex.encode(sha256(canonicalRequest)));
        byte[] key4 = hmac(("AWS4" + secretKey).getBytes(StandardCharsets.UTF_8), date);
        byte[] signingKey = hmac(hmac(hmac(key4, region), "s3"), "aws4_request");
        String signature = Hex.encode(hmac(signingKey, toSign));
        return URI.create("http://" + host + path + "?" + canonicalQuery + "&X-Amz-Signature=" + signature);
    }

    private static byte[] sha256(String text) {
        return Hex.newSha256().digest(text.getBytes(StandardCharsets.UTF_8));
    }

    private static byte[] hmac(byte[] key, String text) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }
}
