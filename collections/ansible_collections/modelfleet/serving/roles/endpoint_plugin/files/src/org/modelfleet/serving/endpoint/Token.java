package org.modelfleet.serving.endpoint;

import java.time.Instant;

/** What lets one in as the header Authorization: Bearer. */
final class Token implements Issued {
    final String value;
    private final Instant expires;

    Token(String value, Instant expires) {
        this.value = value;
        this.expires = expires;
    }

    @Override
    public Instant expires() {
        return expires;
    }
}
