package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;

/** One object store. A store signs; the bytes come through Dragonfly. */
interface ObjectStorage {
    /**
     * The URL that reads this one object until it expires. Its scheme is always http: dfdaemon's proxy rule decides on TLS towards the
     * origin, and a signature does not cover the scheme.
     */
    URI presignGet(String key, Instant now, long expirySeconds);

    /** The object as a human names it, without any secret. */
    String describe(String key);
}
