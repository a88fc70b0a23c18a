package org.modelfleet.serving.endpoint;

import com.google.gson.JsonObject;
import java.time.Instant;
import java.util.List;
import java.util.Map;

/**
 * The agency of a server of Huawei Cloud. As in the ECS User Guide, "Obtaining ECS Details Using Metadata", and with a session as Huawei's
 * own SDKs open it: where the region has none, the metadata service gives the keys without.
 */
final class ObsIdentity extends Identity {
    private final Renewed<Keys> renewed = new Renewed<>(this::issue);

    ObsIdentity(Settings settings, String place) throws EndpointException {
        super(settings, List.of("instance"), place,
                "Use it on a server of Huawei Cloud, with its metadata service on and its address in modelfleet_firewall_destinations",
                "http://169.254.169.254", "");
    }

    Keys current(Instant now) throws EndpointException {
        return renewed.get(now);
    }

    private Keys issue(Instant now) throws EndpointException {
        Answer session = session("/meta-data/latest/api/token", "X-Metadata-Token-Ttl-Seconds");
        if (!session.good() && session.status != 404 && session.status != 405) {
            throw noSession(session);
        }
        Map<String, String> headers = session.good() ? Map.of("X-Metadata-Token", session.text) : Map.of();
        Answer answer = askInstance("GET", "/openstack/latest/securitykey", headers);
        if (answer.status == 404 || (!answer.good() && answer.text.contains("gency"))) {
            throw error(
                    "no agency is configured for this server (" + answer.status + ")",
                    "Configure an agency for this server that may read the bucket (Cloud Service Agency)");
        }
        JsonObject found = answer.good() ? json(answer) : new JsonObject();
        if (!found.has("credential") || !found.get("credential").isJsonObject()) {
            throw unusable();
        }
        JsonObject keys = found.getAsJsonObject("credential");
        return keys(text(keys, "access"), text(keys, "secret"), text(keys, "securitytoken"), text(keys, "expires_at"), now);
    }
}
