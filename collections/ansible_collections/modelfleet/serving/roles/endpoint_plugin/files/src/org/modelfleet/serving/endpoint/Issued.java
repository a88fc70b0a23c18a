package org.modelfleet.serving.endpoint;

import java.time.Instant;

/** What signs for a while. */
interface Issued {
    /** Null for what does not expire. */
    Instant expires();

    /** For how many of the seconds that are asked for a URL opens its object: no longer than what signs it is good. */
    default long signedSeconds(long seconds, Instant now) {
        return expires() == null ? seconds : Math.max(1, Math.min(seconds, expires().getEpochSecond() - now.getEpochSecond()));
    }
}
