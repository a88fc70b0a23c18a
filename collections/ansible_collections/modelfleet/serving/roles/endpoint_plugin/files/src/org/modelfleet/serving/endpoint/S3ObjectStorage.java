package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;
import java.util.List;
import java.util.Map;

/** S3 and what speaks its protocol. */
final class S3ObjectStorage implements ObjectStorage {
    private static final Map<String, String> DOMAINS = Map.of(
            "cn-", "amazonaws.com.cn",
            "eusc-", "amazonaws.eu",
            "us-iso-", "c2s.ic.gov",
            "us-isob-", "sc2s.sgov.gov",
            "us-isof-", "csp.hci.ic.gov",
            "eu-isoe-", "cloud.adc-e.uk");

    private final String bucket;
    private final Location location;
    private final AwsSigner signer;
    private final Keys.Source source;
    private final boolean renews;

    S3ObjectStorage(Settings settings) throws EndpointException {
        bucket = settings.name("bucket_name");
        String region = settings.name("region", "us-east-1");
        renews = settings.has("identity");
        if (renews) {
            Identity.refuseKeys(settings, "access_key", "secret_key", "session_token");
            S3Identity identity = new S3Identity(
                    settings.section("identity"), "s3://" + bucket, "https://sts." + region + "." + domain(region));
            source = identity::current;
        } else {
            Keys keys = new Keys(
                    settings.required("access_key"), settings.required("secret_key"), settings.optional("session_token", ""), null);
            source = now -> keys;
        }
        Map<String, String> payer = settings.flag("requester_pays") ? Map.of("x-amz-request-payer", "requester") : Map.of();
        signer = new AwsSigner(region, source, "X-Amz-Security-Token", payer);
        Location server = settings.server("endpoint", "s3." + region + "." + domain(region));
        // A name with dots does not fit the wildcard certificate of a store, and old names with capitals or underscores are no host names.
        boolean pathStyle = settings.flag("path_style") || !bucket.matches("[a-z0-9-]+") || server.isAddress();
        location = pathStyle ? server.folder(bucket) : server.subdomain(bucket);
    }

    /** Of AWS' partitions; what is none of these is its first one. */
    private static String domain(String region) {
        for (Map.Entry<String, String> partition : DOMAINS.entrySet()) {
            if (region.startsWith(partition.getKey())) {
                return partition.getValue();
            }
        }
        return "amazonaws.com";
    }

    @Override
    public URI presignGet(String key, Instant now, long expirySeconds) throws EndpointException {
        return signer.presignGet(location, key, now, expirySeconds);
    }

    @Override
    public long signedSeconds(long expirySeconds, Instant now) throws EndpointException {
        return source.at(now).signedSeconds(expirySeconds, now);
    }

    @Override
    public boolean renews() {
        return renews;
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
