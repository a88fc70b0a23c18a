package org.modelfleet.serving.endpoint;

import io.netty.handler.codec.http.QueryStringDecoder;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import org.pytorch.serve.archive.DownloadArchiveException;
import org.pytorch.serve.archive.model.ModelException;
import org.pytorch.serve.archive.model.ModelNotFoundException;
import org.pytorch.serve.archive.model.ModelVersionNotFoundException;
import org.pytorch.serve.http.BadRequestException;
import org.pytorch.serve.http.ConflictStatusException;
import org.pytorch.serve.http.StatusResponse;
import org.pytorch.serve.http.messages.DescribeModelResponse;
import org.pytorch.serve.http.messages.RegisterModelRequest;
import org.pytorch.serve.util.ApiUtils;
import org.pytorch.serve.wlm.WorkerInitializationException;

/** TorchServe's own register call, in the one form that is the same from 0.8.1 to 0.12.0. */
final class Registrar {
    private static final Set<String> RUNNING = ConcurrentHashMap.newKeySet();
    private static final int CLEANUP_TRIES = 20;

    private Registrar() {}

    /**
     * TorchServe leaks an unpacked copy of the archive with every conflict, so it is found before TorchServe unpacks. Name and version
     * are null for archives whose manifest this plugin cannot read.
     */
    static void refuseRegistered(String name, String version) throws EndpointException {
        if (name == null || version == null) {
            return;
        }
        try {
            List<DescribeModelResponse> models = ApiUtils.getModelDescription(name, version);
            throw EndpointException.conflict(String.format(
                    "Model version %s is already registered for model %s, from the file %s.", version, name, models.get(0).getModelUrl()));
        } catch (ModelNotFoundException | ModelVersionNotFoundException e) {
            // Not registered: what the caller hopes for.
        }
    }

    static StatusResponse register(String name, String version, String file, Map<String, String> parameters) throws EndpointException {
        StringBuilder query = new StringBuilder("/models?url=").append(UrlEncoding.value(file));
        parameters.forEach((key, value) -> query.append('&').append(key).append('=').append(UrlEncoding.value(value)));
        String running = name == null || version == null ? file : name + " " + version;
        if (!RUNNING.add(running)) {
            throw EndpointException.conflict("Failed to register " + running + ": another call is registering it.");
        }
        try {
            refuseRegistered(name, version);
            return register(name, version, query.toString());
        } finally {
            RUNNING.remove(running);
        }
    }

    private static StatusResponse register(String name, String version, String query) throws EndpointException {
        boolean done = false;
        try {
            StatusResponse response = ApiUtils.registerModel(new RegisterModelRequest(new QueryStringDecoder(query)));
            done = response.getHttpResponseCode() < 400;
            return response;
        } catch (ConflictStatusException e) {
            done = true;
            throw EndpointException.of(409, e);
        } catch (ModelNotFoundException e) {
            throw EndpointException.of(404, e);
        } catch (BadRequestException | ModelException e) {
            throw EndpointException.of(400, e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw EndpointException.of(500, e);
        } catch (ExecutionException | WorkerInitializationException | DownloadArchiveException | RuntimeException e) {
            throw EndpointException.of(500, e);
        } finally {
            if (!done && name != null && version != null) {
                unregisterLeftover(name, version);
            }
        }
    }

    /** After workers have failed to start, TorchServe unregisters on an interrupted thread, and now and then the name stays. */
    private static void unregisterLeftover(String name, String version) {
        for (int i = 0; i < CLEANUP_TRIES; i++) {
            try {
                ApiUtils.unregisterModel(name, version);
                Thread.sleep(50);
            } catch (ModelNotFoundException | ModelVersionNotFoundException e) {
                return;
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return;
            } catch (RuntimeException e) {
                return;
            }
        }
    }
}
