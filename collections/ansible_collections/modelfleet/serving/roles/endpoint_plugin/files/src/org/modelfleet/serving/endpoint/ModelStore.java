package org.modelfleet.serving.endpoint;

import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * TorchServe's model store: a file gets its name here only when its bytes are verified, in one step, and never the name of another file.
 */
final class ModelStore {
    private static final String TEMPORARY = ".endpoint-";
    /** A link has the age of dfdaemon's own file, so the time of its making is in its name, in seconds since 1970. */
    private static final Pattern TEMPORARY_NAME = Pattern.compile("\\.endpoint-([0-9]{1,12})-.*");
    private static final Duration ABANDONED = Duration.ofDays(1);
    private static final Duration LINK_APPEARS_WITHIN = Duration.ofSeconds(30);
    private static final ConcurrentHashMap<String, CompletableFuture<Void>> TURNS = new ConcurrentHashMap<>();

    private final EndpointConfig config;
    private final Path directory;
    private final DragonflyClient client;

    ModelStore(EndpointConfig config, Path directory) {
        this.config = config;
        this.directory = directory;
        this.client = new DragonflyClient(config);
    }

    /** A verified file in the store. */
    static final class Entry {
        final Path file;
        final ArchiveManifest manifest;
        final long bytes;
        final String sha256;
        final boolean downloaded;
        /** Whether the file was not here before this call. */
        private final boolean made;

        Entry(Path file, ArchiveManifest manifest, long bytes, String sha256, boolean downloaded, boolean made) {
            this.file = file;
            this.manifest = manifest;
            this.bytes = bytes;
            this.sha256 = sha256;
            this.downloaded = downloaded;
            this.made = made;
        }

        /** Leaves the store as it was; the bytes stay in dfdaemon's cache. */
        void discard() {
            if (made) {
                delete(file);
            }
        }
    }

    /** Decides, before a file gets its name, whether this archive is wanted. */
    interface Check {
        void accept(ArchiveManifest manifest) throws EndpointException;
    }

    /** The right to make and to register one file; whoever has it closes it. */
    static final class Turn implements AutoCloseable {
        private final String file;
        private final CompletableFuture<Void> end = new CompletableFuture<>();

        private Turn(String file) {
            this.file = file;
        }

        @Override
        public void close() {
            TURNS.remove(file, end);
            end.complete(null);
        }
    }

    /**
     * Waits for the calls that want the same file. One after the other they need one download: a later call finds what an earlier one
     * left, or makes an attempt of its own.
     */
    static Turn turn(RegisterQuery query) {
        Turn turn = new Turn(query.sha256 == null ? baseName(query.object) : query.sha256);
        for (CompletableFuture<Void> other; (other = TURNS.putIfAbsent(turn.file, turn.end)) != null; ) {
            other.join();
        }
        return turn;
    }

    Entry obtain(RegisterQuery query, Check check) throws EndpointException {
        if (query.sha256 != null) {
            Entry present = find(query, check);
            if (present != null) {
                return present;
            }
        }
        Verified verified = query.sha256 == null ? attempt(query.object, null) : downloadVerified(query.object, query.sha256);
        try {
            String object = config.storage.describe(query.object);
            ArchiveManifest manifest = isArchive(query) ? ArchiveManifest.read(verified.file, object) : null;
            if (manifest != null) {
                check.accept(manifest);
            }
            return query.sha256 == null ? keepUnderItsName(query, manifest, verified) : keepUnderItsDigest(object, manifest, verified);
        } finally {
            delete(verified.file);
        }
    }

    private Entry keepUnderItsDigest(String object, ArchiveManifest manifest, Verified verified) throws EndpointException {
        manifest.requireFileName(object);
        Path file = resolve(manifest.name + "-" + manifest.version + "-" + verified.sha256.substring(0, 12) + ".mar");
        move(verified.file, file);
        return new Entry(file, manifest, verified.bytes, verified.sha256, true, true);
    }

    /** With its digest in the name where another file has it: that one may be serving, and is loaded again when TorchServe starts. */
    private Entry keepUnderItsName(RegisterQuery query, ArchiveManifest manifest, Verified verified) throws EndpointException {
        String name = baseName(query.object);
        Path file = resolve(name);
        if (Files.exists(file) && !isContent(file, verified.sha256)) {
            int suffix = name.endsWith(".tar.gz") ? name.length() - 7 : name.lastIndexOf('.');
            int end = suffix > 0 ? suffix : name.length();
            file = resolve(name.substring(0, end) + "-" + verified.sha256.substring(0, 12) + name.substring(end));
        }
        boolean made = !Files.exists(file);
        move(verified.file, file);
        return new Entry(file, manifest, verified.bytes, verified.sha256, true, made);
    }

    /** Without a digest the file keeps its own name, as with the public plugin, and may be any archive that TorchServe unpacks. */
    private static boolean isArchive(RegisterQuery query) {
        return query.sha256 != null || query.object.endsWith(".mar");
    }

    private static String baseName(String object) {
        return object.substring(object.lastIndexOf('/') + 1);
    }

    private Path resolve(String name) throws EndpointException {
        try {
            return directory.resolve(name);
        } catch (InvalidPathException e) {
            throw EndpointException.badRequest("Failed to store " + name
                    + ": this locale has no such characters in file names. Give the sha256, or start TorchServe with a UTF-8 locale.");
        }
    }

    /** The same content, already here: no need for the network. A file that is not what its name says is left to be replaced. */
    private Entry find(RegisterQuery query, Check check) throws EndpointException {
        try (DirectoryStream<Path> files = Files.newDirectoryStream(directory, "*-" + query.sha256.substring(0, 12) + ".mar")) {
            for (Path file : files) {
                if (isContent(file, query.sha256)) {
                    ArchiveManifest manifest = ArchiveManifest.read(file, file.toString());
                    check.accept(manifest);
                    return new Entry(file, manifest, Files.size(file), query.sha256, false, false);
                }
            }
            return null;
        } catch (IOException e) {
            throw cannotUse(directory, e);
        }
    }

    /**
     * A task in Dragonfly is named by its content, so a wrong object stays under that name on every host that has it, even when the
     * origin is repaired. The second name therefore holds what the origin calls its present content.
     */
    private Verified downloadVerified(String object, String sha256) throws EndpointException {
        String taskName = "sha256:" + sha256 + ";piece_length=" + config.pieceLength;
        Verified first = attempt(object, taskName);
        if (sha256.equals(first.sha256)) {
            return first;
        }
        delete(first.file);
        String generation = client.generation(object);
        Verified second = generation.isEmpty() ? first : attempt(object, taskName + ";generation=" + generation);
        if (sha256.equals(second.sha256)) {
            return second;
        }
        delete(second.file);
        throw EndpointException.badGateway(String.format(
                "Failed to verify %s: the object has the sha256 %s, but %s was asked for. Publish the right file under this key, or correct"
                        + " the sha256 of the model.",
                config.storage.describe(object), second.sha256, sha256));
    }

    /** Bytes under a temporary name, with the digest they have. */
    private static final class Verified {
        final Path file;
        final long bytes;
        final String sha256;

        Verified(Path file, DragonflyClient.Received received) {
            this.file = file;
            this.bytes = received.bytes;
            this.sha256 = received.sha256;
        }
    }

    /** One download, repeated with jitter while the failure may pass: all hosts ask at once, and must not come back at once. */
    private Verified attempt(String object, String taskName) throws EndpointException {
        Instant deadline = Instant.now().plusSeconds(config.retrySeconds);
        for (long ceiling = 1000; ; ceiling = Math.min(ceiling * 2, 15_000)) {
            try {
                return config.incoming == null ? downloadHere(object, taskName) : downloadLinked(object, taskName);
            } catch (EndpointException e) {
                long pause = ThreadLocalRandom.current().nextLong(ceiling / 2, ceiling);
                if (!e.worthRetrying() || Instant.now().plusMillis(pause).isAfter(deadline)) {
                    throw e;
                }
                sleep(pause);
            }
        }
    }

    private Verified downloadHere(String object, String taskName) throws EndpointException {
        Path file = temporary(directory);
        boolean done = false;
        try (FileOutputStream out = new FileOutputStream(file.toFile())) {
            Verified verified = new Verified(file, client.download(object, taskName, null, out));
            out.getFD().sync();
            done = true;
            return verified;
        } catch (IOException e) {
            throw cannotUse(directory, e);
        } finally {
            if (!done) {
                delete(file);
            }
        }
    }

    /** dfdaemon links its own file, so that a model is on disk once; the body is hashed on its way and then the file itself. */
    private Verified downloadLinked(String object, String taskName) throws EndpointException {
        Path link = temporary(config.incoming);
        boolean done = false;
        try {
            DragonflyClient.Received received = client.download(object, taskName, link, OutputStream.nullOutputStream());
            awaitLink(link, received.bytes);
            if (!received.sha256.equals(hash(link))) {
                throw EndpointException.passingBadGateway(String.format(
                        "Failed to verify %s: the file that dfdaemon linked into %s differs from the bytes it sent. Check the disk.",
                        config.storage.describe(object), config.incoming));
            }
            done = true;
            return new Verified(link, received);
        } catch (IOException e) {
            throw cannotUse(config.incoming, e);
        } finally {
            if (!done) {
                delete(link);
            }
        }
    }

    /** The link appears a moment after the last byte of the body. */
    private void awaitLink(Path link, long bytes) throws EndpointException, IOException {
        Instant deadline = Instant.now().plus(LINK_APPEARS_WITHIN);
        for (long pause = 5; !Files.exists(link) || Files.size(link) != bytes; pause = Math.min(pause * 2, 200)) {
            if (Instant.now().isAfter(deadline)) {
                throw EndpointException.badGateway("Failed to find the file that dfdaemon should link into " + config.incoming
                        + ". Piece store and this directory must be on one filesystem and, under systemd, under one ReadWritePaths entry.");
            }
            sleep(pause);
        }
    }

    private static Path temporary(Path directory) throws EndpointException {
        if (!Files.isDirectory(directory)) {
            throw EndpointException.internal("Failed to use the directory " + directory + ": it does not exist. Create it, or correct config.json.");
        }
        sweep(directory);
        return directory.resolve(TEMPORARY + Instant.now().getEpochSecond() + "-" + UUID.randomUUID());
    }

    /** A link can still appear after its call has failed, and a killed process cleans nothing. */
    private static void sweep(Path directory) throws EndpointException {
        Instant limit = Instant.now().minus(ABANDONED);
        List<Path> abandoned = new ArrayList<>();
        try (DirectoryStream<Path> files = Files.newDirectoryStream(directory, TEMPORARY + "*")) {
            for (Path file : files) {
                Matcher name = TEMPORARY_NAME.matcher(file.getFileName().toString());
                if (name.matches() && Long.parseLong(name.group(1)) < limit.getEpochSecond()) {
                    abandoned.add(file);
                }
            }
        } catch (IOException e) {
            throw cannotUse(directory, e);
        }
        abandoned.forEach(ModelStore::delete);
    }

    private static void move(Path from, Path to) throws EndpointException {
        try {
            Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
            throw EndpointException.internal("Failed to move a verified model from " + from.getParent() + " to " + to + " ("
                    + e.getClass().getSimpleName() + "). Both must be on one filesystem, writable for TorchServe's user.");
        }
    }

    private static boolean isContent(Path file, String sha256) throws EndpointException {
        try {
            return Files.isRegularFile(file) && sha256.equals(hash(file));
        } catch (IOException e) {
            throw cannotUse(file, e);
        }
    }

    private static String hash(Path file) throws IOException {
        MessageDigest digest = Hex.newSha256();
        byte[] buffer = new byte[1 << 18];
        try (InputStream in = Files.newInputStream(file)) {
            for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                digest.update(buffer, 0, n);
            }
        }
        return Hex.encode(digest.digest());
    }

    private static void delete(Path file) {
        try {
            Files.deleteIfExists(file);
        } catch (IOException e) {
            // The next sweep tries again.
        }
    }

    private static void sleep(long milliseconds) throws EndpointException {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw EndpointException.internal("Failed to finish the download: TorchServe is stopping.");
        }
    }

    private static EndpointException cannotUse(Path path, IOException e) {
        return EndpointException.internal("Failed to use " + path + ": " + e.getMessage() + " ("
                + e.getClass().getSimpleName() + "). Check its free space and permissions.");
    }
}
