package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Azure Blob Storage: a service SAS that reads one blob. */
final class AbsObjectStorage implements ObjectStorage {
    /** Decides what is signed, in which order. */
    private static final String VERSION = "2021-12-02";
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss'Z'").withZone(ZoneOffset.UTC);
    private static final List<String> PARAMETERS = List.of("sv", "se", "sr", "sp", "spr", "sig");

    private final String account;
    private final String container;
    private final byte[] accountKey;
    private final Location location;

    AbsObjectStorage(Settings settings) throws EndpointException {
        account = settings.name("account_name");
        container = settings.required("container_name");
        try {
            accountKey = Base64.getDecoder().decode(settings.required("account_key"));
        } catch (IllegalArgumentException e) {
            throw settings.error("account_key", "must be base64, as Azure shows it");
        }
        String suffix = settings.name("endpoint_suffix", "core.windows.net");
        Location server = settings.server("endpoint", account + ".blob." + suffix);
        // With an endpoint of its own an account is in the path, or the host name stands for it.
        boolean pathStyle = !settings.optional("endpoint", "").isEmpty() && (settings.flag("path_style") || server.isAddress());
        location = (pathStyle ? server.folder(account) : server).folder(container);
    }

    @Override
    public URI presignGet(String key, Instant now, long expirySeconds) {
        String expiry = TIME.format(now.plusSeconds(expirySeconds));
        String protocol = location.tls ? "https" : "";
        String resource = "/blob/" + account + "/" + container + "/" + key;
        // By position: permission, start, expiry, resource, policy, addresses, protocol, version, kind, snapshot, encryption scope, and
        // the five headers that a SAS can replace.
        String toSign = String.join("\n", "r", "", expiry, resource, "", "", protocol, VERSION, "b", "", "", "", "", "", "", "");
        Map<String, String> parameters = new HashMap<>(Map.of("sv", VERSION, "sr", "b", "sp", "r", "se", expiry));
        if (location.tls) {
            parameters.put("spr", protocol);
        }
        parameters.put("sig", Base64.getEncoder().encodeToString(Hmac.sha256(accountKey, toSign)));
        return location.url(key, SignatureV4.canonicalQuery(parameters));
    }

    @Override
    public List<String> signatureParameters() {
        return PARAMETERS;
    }

    @Override
    public String describe(String key) {
        return location.describe(key);
    }

    @Override
    public String adviceWhenRefused() {
        return "Check account name, account key and clock.";
    }
}
