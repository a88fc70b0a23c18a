package org.modelfleet.serving.endpoint;

import java.net.URI;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Azure Blob Storage: a SAS that reads one blob, by an account key or by the key that an identity is given. */
final class AbsObjectStorage implements ObjectStorage {
    /** Decides what is signed, in which order. */
    private static final String VERSION = "2021-12-02";
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss'Z'").withZone(ZoneOffset.UTC);
    private static final List<String> PARAMETERS = List.of("sv", "se", "sr", "sp", "spr", "sig");
    /** What a user delegation SAS says of its key, in the order in which it is signed. */
    private static final List<String> DELEGATION = List.of("skoid", "sktid", "skt", "ske", "sks", "skv");

    private final String account;
    private final String container;
    /** Null with an identity. */
    private final byte[] accountKey;
    /** Null with an account key. */
    private final AbsIdentity identity;
    private final Location location;

    AbsObjectStorage(Settings settings) throws EndpointException {
        account = settings.name("account_name");
        container = settings.required("container_name");
        String suffix = settings.name("endpoint_suffix", "core.windows.net");
        Location server = settings.server("endpoint", account + ".blob." + suffix);
        // With an endpoint of its own an account is in the path, or the host name stands for it.
        boolean pathStyle = !settings.optional("endpoint", "").isEmpty() && (settings.flag("path_style") || server.isAddress());
        Location all = pathStyle ? server.folder(account) : server;
        location = all.folder(container);
        if (!settings.has("identity")) {
            accountKey = accountKey(settings);
            identity = null;
            return;
        }
        Identity.refuseKeys(settings, "account_key");
        if (!server.tls) {
            throw settings.error("endpoint", "must begin with https:// beside identity, for Azure takes tokens by TLS only");
        }
        accountKey = null;
        identity = new AbsIdentity(
                settings.section("identity"), location.describe("").replaceAll("/$", ""), Identity.base(all), VERSION, suffix);
    }

    private static byte[] accountKey(Settings settings) throws EndpointException {
        try {
            return Base64.getDecoder().decode(settings.required("account_key"));
        } catch (IllegalArgumentException e) {
            throw settings.error("account_key", "must be base64, as Azure shows it");
        }
    }

    @Override
    public URI presignGet(String key, Instant now, long expirySeconds) throws EndpointException {
        AbsIdentity.DelegationKey delegation = identity == null ? null : identity.current(now);
        String expiry = TIME.format(now.plusSeconds(delegation == null ? expirySeconds : delegation.signedSeconds(expirySeconds, now)));
        String protocol = location.tls ? "https" : "";
        String resource = "/blob/" + account + "/" + container + "/" + key;
        // A policy; or the key, and whom and which correlation a SAS may be for.
        String by = delegation == null ? "" : String.join("\n", delegation.signed) + "\n\n\n";
        // By position: permission, start, expiry, resource, by what, addresses, protocol, version, kind, snapshot, encryption scope, and
        // the five headers that a SAS can replace.
        String toSign = String.join("\n", "r", "", expiry, resource, by, "", protocol, VERSION, "b", "", "", "", "", "", "", "");
        Map<String, String> parameters = new HashMap<>(Map.of("sv", VERSION, "sr", "b", "sp", "r", "se", expiry));
        if (location.tls) {
            parameters.put("spr", protocol);
        }
        for (int at = 0; delegation != null && at < DELEGATION.size(); at++) {
            parameters.put(DELEGATION.get(at), delegation.signed.get(at));
        }
        byte[] secret = delegation == null ? accountKey : delegation.value;
        parameters.put("sig", Base64.getEncoder().encodeToString(Hmac.sha256(secret, toSign)));
        return location.url(key, SignatureV4.canonicalQuery(parameters));
    }

    @Override
    public long signedSeconds(long expirySeconds, Instant now) throws EndpointException {
        return identity == null ? expirySeconds : identity.current(now).signedSeconds(expirySeconds, now);
    }

    @Override
    public boolean renews() {
        return identity != null;
    }

    @Override
    public List<String> signatureParameters() {
        List<String> names = new ArrayList<>(PARAMETERS);
        if (identity != null) {
            names.addAll(DELEGATION);
        }
        return names;
    }

    @Override
    public String describe(String key) {
        return location.describe(key);
    }

    @Override
    public String adviceWhenRefused() {
        return identity == null
                ? "Check account name, account key and clock."
                : "Check account name, what the identity may read, and the clock.";
    }
}
