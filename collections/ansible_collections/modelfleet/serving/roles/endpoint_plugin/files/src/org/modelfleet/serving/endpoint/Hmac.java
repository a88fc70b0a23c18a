package org.modelfleet.serving.endpoint;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Keyed digests, of which every store with a shared secret makes its signature. */
final class Hmac {
    private Hmac() {}

    static byte[] sha256(byte[] key, String text) {
        return digest("HmacSHA256", key, text);
    }

    /** What the version 1 signatures of OSS and OBS put into the URL. */
    static String sha1Base64(String key, String text) {
        return Base64.getEncoder().encodeToString(digest("HmacSHA1", key.getBytes(StandardCharsets.UTF_8), text));
    }

    private static byte[] digest(String algorithm, byte[] key, String text) {
        try {
            Mac mac = Mac.getInstance(algorithm);
            mac.init(new SecretKeySpec(key, algorithm));
            return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }
}
