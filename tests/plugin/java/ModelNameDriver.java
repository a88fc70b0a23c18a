package org.modelfleet.serving.endpoint;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/** Test only: says the rule, then of every line of its input whether it can be a name. */
public final class ModelNameDriver {
    private ModelNameDriver() {}

    public static void main(String[] args) throws Exception {
        System.out.println(ModelName.RULE);
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)).lines().map(ModelName::isName).forEach(System.out::println);
    }
}
