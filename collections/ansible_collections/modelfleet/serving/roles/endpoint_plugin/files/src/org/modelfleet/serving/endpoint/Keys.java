package org.modelfleet.serving.endpoint;

import java.time.Instant;

/** What signs for S3, OSS and OBS. */
final class Keys implements Issued {
    final String accessKey;
    final String secretKey;
    /** Empty for permanent keys. */
    final String token;
    private final Instant expires;

    Keys(String accessKey, String secretKey, String token, Instant expires) {
        this.accessKey = accessKey;
        this.secretKey = secretKey;
        this.token = token;
        this.expires = expires;
    }

    @Override
    public Instant expires() {
        return expires;
    }

    /** Where they come from: the configuration, or an identity. */
    interface Source {
        Keys at(Instant now) throws EndpointException;
    }
}
