package org.modelfleet.serving.endpoint;

import java.util.regex.Pattern;

/** What the name and the version of a model may be, where they become parts of one file name; the modules have the same rule. */
final class ModelName {
    static final String RULE =
            "must be of letters, digits, dots, dashes and underscores, 100 at most, with a letter or digit first and no two dots in a row";

    /** TorchServe refuses file names with two dots in a row. */
    private static final Pattern NAME = Pattern.compile("(?!.*\\.\\.)[A-Za-z0-9][A-Za-z0-9._-]{0,99}");

    private ModelName() {}

    static boolean isName(String text) {
        return NAME.matcher(text).matches();
    }
}
