package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** AWS Signature Version 4 in the query string, for S3 and the stores that took it over. */
final class AwsSigner {
    private static final String ALGORITHM = "AWS4-HMAC-SHA256";

    private final String region;
    private final Keys.Source source;
    private final String tokenName;
    /** What else stands in the query and is signed. */
    private final Map<String, String> more;

    AwsSigner(String region, Keys.Source source, String tokenName, Map<String, String> more) {
        this.region = region;
        this.source = source;
        this.tokenName = tokenName;
        this.more = more;
    }

    List<String> parameters() {
        List<String> names = new ArrayList<>(List.of(
                "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", tokenName));
        names.addAll(more.keySet());
        return names;
    }

    URI presignGet(Location location, String key, Instant now, long expirySeconds) throws EndpointException {
        Keys keys = source.at(now);
        String timestamp = SignatureV4.timestamp(now);
        String scope = timestamp.substring(0, 8) + "/" + region + "/s3/aws4_request";
        Map<String, String> parameters = new HashMap<>(Map.of(
                "X-Amz-Algorithm", ALGORITHM,
                "X-Amz-Credential", keys.accessKey + "/" + scope,
                "X-Amz-Date", timestamp,
                "X-Amz-Expires", Long.toString(keys.signedSeconds(expirySeconds, now)),
                "X-Amz-SignedHeaders", "host"));
        if (!keys.token.isEmpty()) {
            parameters.put(tokenName, keys.token);
        }
        parameters.putAll(more);
        String query = SignatureV4.canonicalQuery(parameters);
        String host = "host:" + location.authority();
        String request = String.join("\n", "GET", location.path(key), query, host, "", "host", "UNSIGNED-PAYLOAD");
        String toSign = SignatureV4.stringToSign(ALGORITHM, timestamp, scope, request);
        return location.url(key, query + "&X-Amz-Signature=" + SignatureV4.sign("AWS4" + keys.secretKey, scope, toSign));
    }
}
