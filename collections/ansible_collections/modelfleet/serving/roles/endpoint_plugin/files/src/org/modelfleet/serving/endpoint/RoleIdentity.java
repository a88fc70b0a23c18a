package org.modelfleet.serving.endpoint;

import com.google.gson.JsonObject;
import java.time.Instant;
import java.util.List;
import java.util.Map;

/** The role of an instance, as AWS has it and Alibaba Cloud too: a session, the name of the role, the credentials. */
abstract class RoleIdentity extends Identity {
    private final Renewed<Keys> renewed = new Renewed<>(this::issue);

    RoleIdentity(Settings settings, String place, String advice, String ofInstances, String ofTokens) throws EndpointException {
        super(settings, List.of("instance", "web_identity"), place, advice, ofInstances, ofTokens);
    }

    Keys current(Instant now) throws EndpointException {
        return renewed.get(now);
    }

    private Keys issue(Instant now) throws EndpointException {
        return ofInstance ? ofInstance(now) : forToken(now);
    }

    abstract Keys ofInstance(Instant now) throws EndpointException;

    abstract Keys forToken(Instant now) throws EndpointException;

    /**
     * What the metadata service says of the instance's role.
     *
     * @param header of a session
     * @param roles the path of the roles, with a slash at its end
     * @param unattached what to do where there is none
     * @param assumedBy the service that must be allowed to assume it
     */
    JsonObject role(String header, String roles, String unattached, String assumedBy) throws EndpointException {
        Answer session = session("/latest/api/token", header + "-ttl-seconds");
        if (session.status == 403) {
            throw error("its metadata service is off (403)", "Switch it on for this instance");
        }
        if (!session.good()) {
            throw noSession(session);
        }
        Map<String, String> headers = Map.of(header, session.text);
        Answer names = askInstance("GET", roles, headers);
        if (names.status == 404 || (names.good() && names.text.isBlank())) {
            throw error("no role is attached to this instance", unattached);
        }
        String name = names.text.strip().split("\\s", 2)[0];
        if (!names.good() || !name.matches("[A-Za-z0-9_+=,.@-]{1,128}")) {
            throw unusable();
        }
        Answer answer = askInstance("GET", roles + name, headers);
        if (!answer.good()) {
            throw error("it gives nothing for the role " + name + " (" + answer.status + ")", unattached);
        }
        JsonObject found = json(answer);
        if (found.has("Code") && !"Success".equals(text(found, "Code"))) {
            throw error("the role " + name + " cannot be assumed", "Let the service " + assumedBy + " assume that role");
        }
        return found;
    }

    EndpointException expired(String tokenPath, String said) {
        return error("the token in " + tokenPath + " has expired " + said, "Have whoever writes it renew it, and check the clock");
    }

    EndpointException notAccepted(String tokenPath, String said, String remedy) {
        return error("it does not accept the token in " + tokenPath + " " + said, remedy);
    }

    EndpointException notAllowed(String tokenPath, String role, String said) {
        return error(
                "it does not let the token in " + tokenPath + " assume " + role + " " + said,
                "Allow its subject and audience in the trust policy there");
    }
}
