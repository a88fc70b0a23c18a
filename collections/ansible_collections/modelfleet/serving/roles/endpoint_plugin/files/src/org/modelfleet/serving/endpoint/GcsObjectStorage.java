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
    /** Null with an identity. */
    private final ServiceAccount account;
    /** Null with the key of a service account. */
    private final GcsIdentity identity;
    private final Location location;
    /** Who pays where the bucket lets its requesters pay; empty elsewhere. */
    private final String userProject;

    GcsObjectStorage(Settings settings) throws EndpointException {
        bucket = settings.name("bucket_name");
        if (settings.has("identity")) {
            Identity.refuseKeys(settings, "service_account_path");
            account = null;
            identity = new GcsIdentity(settings.section("identity"), "gs://" + bucket);
        } else {
            account = ServiceAccount.read(settings, "service_account_path");
            identity = null;
        }
        userProject = settings.optional("user_project", "");
        location = settings.server("endpoint", "storage.googleapis.com").folder(bucket);
    }

    @Override
    public URI presignGet(String key, Instant now, long expirySeconds) throws EndpointException {
        String timestamp = SignatureV4.timestamp(now);
        String scope = timestamp.substring(0, 8) + "/auto/storage/goog4_request";
        Map<String, String> parameters = new HashMap<>(Map.of(
                "X-Goog-Algorithm", ALGORITHM,
                "X-Goog-Credential", (identity == null ? account.email : identity.email()) + "/" + scope,
                "X-Goog-Date", timestamp,
                "X-Goog-Expires", Long.toString(signedSeconds(expirySeconds, now)),
                "X-Goog-SignedHeaders", "host"));
        if (!userProject.isEmpty()) {
            parameters.put("userProject", userProject);
        }
        String query = SignatureV4.canonicalQuery(parameters);
        String host = "host:" + location.authority();
        String request = String.join("\n", "GET", location.path(key), query, host, "", "host", "UNSIGNED-PAYLOAD");
        String toSign = SignatureV4.stringToSign(ALGORITHM, timestamp, scope, request);
        byte[] signature = identity == null ? account.sign(toSign) : identity.sign(toSign, now);
        return location.url(key, query + "&X-Goog-Signature=" + Hex.encode(signature));
    }

    @Override
    public long signedSeconds(long expirySeconds, Instant now) {
        return identity == null ? expirySeconds : Math.min(expirySeconds, GcsIdentity.SIGNED_SECONDS);
    }

    @Override
    public boolean renews() {
        return identity != null;
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
