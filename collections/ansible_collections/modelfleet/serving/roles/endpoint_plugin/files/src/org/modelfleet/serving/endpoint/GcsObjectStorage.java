package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Google Cloud Storage: signature version 4 with the RSA key of a service account. */
final class GcsObjectStorage implements ObjectStorage {
    private static final String ALGORITHM = "GOOG4-RSA-SHA256";
    private static final List<String> PARAMETERS = List.of(
            "X-Goog-Algorithm", "X-Goog-Credential", "X-Goog-Date", "X-Goog-Expires", "X-Goog-SignedHeaders", "X-Goog-Signature");

    private final String bucket;
    private final ServiceAccount account;
    private final Location location;
    /** Who pays where the bucket lets its requesters pay; empty elsewhere. */
    private final String userProject;

    GcsObjectStorage(Settings settings) throws EndpointException {
        bucket = settings.name("bucket_name");
        account = ServiceAccount.read(settings, "service_account_path");
        userProject = settings.optional("user_project", "");
        location = settings.server("endpoint", "storage.googleapis.com").folder(bucket);
    }

    @Override
    public URI presignGet(String key, Instant now, long expirySeconds) {
        String timestamp = SignatureV4.timestamp(now);
        String scope = timestamp.substring(0, 8) + "/auto/storage/goog4_request";
        Map<String, String> parameters = new HashMap<>(Map.of(
                "X-Goog-Algorithm", ALGORITHM,
                "X-Goog-Credential", account.email + "/" + scope,
                "X-Goog-Date", timestamp,
                "X-Goog-Expires", Long.toString(expirySeconds),
                "X-Goog-SignedHeaders", "host"));
        if (!userProject.isEmpty()) {
            parameters.put("userProject", userProject);
        }
        String query = SignatureV4.canonicalQuery(parameters);
        String host = "host:" + location.authority();
        String request = String.join("\n", "GET", location.path(key), query, host, "", "host", "UNSIGNED-PAYLOAD");
        String toSign = SignatureV4.stringToSign(ALGORITHM, timestamp, scope, request);
        return location.url(key, query + "&X-Goog-Signature=" + Hex.encode(account.sign(toSign)));
    }

    @Override
    public List<String> signatureParameters() {
        List<String> names = new ArrayList<>(PARAMETERS);
        if (!userProject.isEmpty()) {
            names.add("userProject");
        }
        return names;
    }

    @Override
    public String describe(String key) {
        return "gs://" + bucket + "/" + key;
    }

    @Override
    public String adviceWhenRefused() {
        return "Check the service account, its key and the clock; without list permission a missing object looks the same.";
    }
}
