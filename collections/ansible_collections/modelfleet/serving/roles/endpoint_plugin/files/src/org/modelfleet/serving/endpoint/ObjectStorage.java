package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;
import java.util.List;
import java.util.Map;

/** One object store. A store signs; the bytes come through Dragonfly. */
interface ObjectStorage {
    /**
     * The URL that reads this one object until it expires. Its scheme is always http: dfdaemon's proxy rule decides on TLS towards the
     * origin, and a signature does not cover the scheme.
     */
    URI presignGet(String key, Instant now, long expirySeconds) throws EndpointException;

    /** For how many of these seconds a URL that is signed now opens its object: no longer than what signs it is good. */
    default long signedSeconds(long expirySeconds, Instant now) throws EndpointException {
        return expirySeconds;
    }

    /** Whether what signs is renewed now and then, so that a refusal may be one of what was good before. */
    default boolean renews() {
        return false;
    }

    /** The parts of the query that are another one at every call: to Dragonfly they must not tell two objects apart. */
    List<String> signatureParameters();

    /** Headers that the origin wants. dfdaemon and every seed see them. */
    default Map<String, String> headers() {
        return Map.of();
    }

    /** The object as a human names it, without any secret. */
    String describe(String key);

    /** One sentence: what to check when the origin answers 400, 401 or 403. */
    String adviceWhenRefused();
}
