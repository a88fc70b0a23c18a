package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;
import java.util.List;

/** S3 and what speaks its protocol. */
final class S3ObjectStorage implements ObjectStorage {
    private final String bucket;
    private final Location location;
    private final AwsSigner signer;

    S3ObjectStorage(Settings settings) throws EndpointException {
        bucket = settings.name("bucket_name");
        String region = settings.name("region", "us-east-1");
        String accessKey = settings.required("access_key");
        String secretKey = settings.required("secret_key");
        signer = new AwsSigner(region, accessKey, secretKey, "X-Amz-Security-Token", settings.optional("session_token", ""));
        Location server = settings.server("endpoint", "s3." + region + ".amazonaws.com" + (region.startsWith("cn-") ? ".cn" : ""));
        // A name with dots does not fit the wildcard certificate of a store.
        boolean pathStyle = settings.flag("path_style") || bucket.contains(".") || server.isAddress();
        location = pathStyle ? server.folder(bucket) : server.subdomain(bucket);
    }

    @Override
    public URI presignGet(String key, Instant now, long expirySeconds) {
        return signer.presignGet(location, key, now, expirySeconds);
    }

    @Override
    public List<String> signatureParameters() {
        return signer.parameters();
    }

    @Override
    public String describe(String key) {
        return "s3://" + bucket + "/" + key;
    }

    @Override
    public String adviceWhenRefused() {
        return "Check credentials, region and clock; without list permission a missing object looks the same.";
    }
}
