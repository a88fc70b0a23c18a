package org.modelfleet.serving.endpoint;

import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** What the version 4 signatures of S3, Google and OSS have in common. */
final class SignatureV4 {
    private static final DateTimeFormatter TIMESTAMP = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);

    private SignatureV4() {}

    static String timestamp(Instant now) {
        return TIMESTAMP.format(now);
    }

    /** The query as it is signed, and as it is sent in front of the signature. */
    static String canonicalQuery(Map<String, String> parameters) {
        return new TreeMap<>(parameters)
                .entrySet().stream()
                        .map(e -> UrlEncoding.value(e.getKey()) + "=" + UrlEncoding.value(e.getValue()))
                        .collect(Collectors.joining("&"));
    }

    static String stringToSign(String algorithm, String timestamp, String scope, String canonicalRequest) {
        byte[] digest = Hex.newSha256().digest(canonicalRequest.getBytes(StandardCharsets.UTF_8));
        return String.join("\n", algorithm, timestamp, scope, Hex.encode(digest));
    }

    /** The signature with a key that is bound to every part of the scope. */
    static String sign(String prefixedSecret, String scope, String stringToSign) {
        byte[] key = prefixedSecret.getBytes(StandardCharsets.UTF_8);
        for (String part : scope.split("/")) {
            key = Hmac.sha256(key, part);
        }
        return Hex.encode(Hmac.sha256(key, stringToSign));
    }
}
