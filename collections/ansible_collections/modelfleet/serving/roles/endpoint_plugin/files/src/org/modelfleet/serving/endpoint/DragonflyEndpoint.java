package org.modelfleet.serving.endpoint;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Paths;
import java.util.LinkedHashMap;
import java.util.Map;
import org.pytorch.serve.http.StatusResponse;
import org.pytorch.serve.servingsdk.Context;
import org.pytorch.serve.servingsdk.ModelServerEndpoint;
import org.pytorch.serve.servingsdk.annotations.Endpoint;
import org.pytorch.serve.servingsdk.annotations.helpers.EndpointTypes;
import org.pytorch.serve.servingsdk.http.Request;
import org.pytorch.serve.servingsdk.http.Response;
import org.pytorch.serve.util.ConfigManager;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * {@code POST /dragonfly/models?file_name=…}: takes a model archive from the object store through Dragonfly and registers it.
 *
 * <p>This class is the HTTP edge only: every outcome leaves it as a status code and one JSON object.
 */
@Endpoint(
        urlPattern = "dragonfly",
        endpointType = EndpointTypes.MANAGEMENT,
        description = "Registers a model that comes from the object store through Dragonfly.")
public class DragonflyEndpoint extends ModelServerEndpoint {
    private static final Logger LOG = LoggerFactory.getLogger(DragonflyEndpoint.class);

    @Override
    public void doPost(Request request, Response response, Context context) throws IOException {
        answer(request, response, this::register);
    }

    /** Says whether config.json can be used, without any contact with proxy or store. */
    @Override
    public void doGet(Request request, Response response, Context context) throws IOException {
        answer(request, response, (get, body) -> {
            EndpointConfig config = EndpointConfig.load(EndpointConfig.path());
            body.put("status", "ready");
            body.put("proxy", config.proxyName);
            body.put("storage", config.storage.describe(""));
            return 200;
        });
    }

    private interface Action {
        int run(Request request, Map<String, Object> body) throws EndpointException;
    }

    private void answer(Request request, Response response, Action action) throws IOException {
        Map<String, Object> body = new LinkedHashMap<>();
        int code;
        try {
            String path = request.getRequestURI().split("\\?", 2)[0].replaceAll("/+$", "");
            if (!"/dragonfly".equals(path) && !"/dragonfly/models".equals(path)) {
                throw EndpointException.notFound("There is nothing at " + path + ". This plugin answers at /dragonfly/models.");
            }
            code = action.run(request, body);
        } catch (EndpointException e) {
            code = failed(body, e.code(), e.type(), e.getMessage());
            LOG.error("Answered {}: {}", code, e.getMessage());
        } catch (RuntimeException | LinkageError e) {
            // The message of an unforeseen exception may hold a signed URL: its class is all that leaves this place.
            code = failed(body, 500, e.getClass().getSimpleName(), "The endpoint plugin failed; see TorchServe's log.");
            LOG.error("Answered 500: {} at {}", e.getClass().getName(), e.getStackTrace().length > 0 ? e.getStackTrace()[0] : "?");
        }
        response.setStatus(code);
        response.setContentType("application/json");
        try (OutputStream out = response.getOutputStream()) {
            out.write((Json.write(body) + "\n").getBytes(StandardCharsets.UTF_8));
        }
    }

    private static int failed(Map<String, Object> body, int code, String type, String message) {
        body.clear();
        body.put("code", code);
        body.put("type", type);
        body.put("message", message);
        return code;
    }

    private int register(Request request, Map<String, Object> body) throws EndpointException {
        long start = System.nanoTime();
        RegisterQuery query = new RegisterQuery(request, EndpointConfig.load(EndpointConfig.path()).requireSha256);
        ModelStore.Entry entry;
        StatusResponse registered;
        try (ModelStore.Turn turn = ModelStore.turn(query)) {
            Registrar.refuseRegistered(query.modelName, query.modelVersion);
            // A key may have been rotated while this call waited.
            EndpointConfig config = EndpointConfig.load(EndpointConfig.path());
            ModelStore store = new ModelStore(config, Paths.get(ConfigManager.getInstance().getModelStore()));
            entry = store.obtain(query, manifest -> accept(query, manifest));
            registered = registerOrDiscard(query, entry);
        }
        body.put("status", registered.getStatus());
        if (entry.manifest != null) {
            body.put("model_name", servedName(query, entry.manifest));
            body.put("model_version", entry.manifest.version);
        }
        body.put("file", entry.file.getFileName().toString());
        body.put("bytes", entry.bytes);
        body.put("sha256", entry.sha256);
        body.put("downloaded", entry.downloaded);
        body.put("seconds", Math.round((System.nanoTime() - start) / 1e6) / 1e3);
        LOG.info("Registered {}", body);
        // 206 says "still scaling", which is what 202 says to everyone else.
        return registered.getHttpResponseCode() == 206 ? 202 : registered.getHttpResponseCode();
    }

    private static void accept(RegisterQuery query, ArchiveManifest manifest) throws EndpointException {
        // Without a digest the caller may rename a model, as TorchServe itself allows.
        if (query.sha256 != null && query.modelName != null && !query.modelName.equals(manifest.name)) {
            throw mismatch(query, "model_name", query.modelName, manifest.name);
        }
        if (query.modelVersion != null && !query.modelVersion.equals(manifest.version)) {
            throw mismatch(query, "model_version", query.modelVersion, manifest.version);
        }
        Registrar.refuseRegistered(servedName(query, manifest), manifest.version);
    }

    private static EndpointException mismatch(RegisterQuery query, String parameter, String asked, String found) {
        return EndpointException.badRequest(String.format(
                "Failed to register %s: %s is %s, but the manifest of the archive says %s. Make them equal.",
                query.object, parameter, asked, found));
    }

    private static String servedName(RegisterQuery query, ArchiveManifest manifest) {
        return query.modelName == null ? manifest.name : query.modelName;
    }

    /** A call that fails leaves nothing new in the store. */
    private static StatusResponse registerOrDiscard(RegisterQuery query, ModelStore.Entry entry) throws EndpointException {
        boolean keep = false;
        try {
            String name = entry.manifest == null ? query.modelName : servedName(query, entry.manifest);
            String version = entry.manifest == null ? query.modelVersion : entry.manifest.version;
            StatusResponse response = Registrar.register(name, version, entry.file.getFileName().toString(), query.forTorchServe);
            if (response.getHttpResponseCode() >= 400) {
                throw EndpointException.internal(response.getStatus() + ". See TorchServe's log for the reason.");
            }
            keep = true;
            return response;
        } catch (EndpointException e) {
            keep = e.code() == 409;
            throw e;
        } finally {
            if (!keep) {
                entry.discard();
            }
        }
    }
}
