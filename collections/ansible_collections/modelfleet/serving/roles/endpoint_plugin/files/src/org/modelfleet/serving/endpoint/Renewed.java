package org.modelfleet.serving.endpoint;

import java.time.Duration;
import java.time.Instant;

/** What a source gives, kept in memory and asked for again before it expires. */
final class Renewed<T extends Issued> {
    /** Every vendor has the next credentials ready for so long before the last ones expire. */
    private static final Duration EARLY = Duration.ofMinutes(5);

    private final Source<T> source;
    private T found;
    private Instant until;

    Renewed(Source<T> source) {
        this.source = source;
    }

    interface Source<T> {
        T issue(Instant now) throws EndpointException;
    }

    synchronized T get(Instant now) throws EndpointException {
        if (found == null || !now.isBefore(until)) {
            try {
                found = source.issue(now);
            } catch (EndpointException e) {
                // What is good yet is good enough for now.
                if (found == null || found.expires().isBefore(now.plusSeconds(1))) {
                    throw e;
                }
            }
            Duration half = Duration.between(now, found.expires()).dividedBy(2);
            until = found.expires().minus(half.compareTo(EARLY) < 0 ? half : EARLY);
        }
        return found;
    }
}
