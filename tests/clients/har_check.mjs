// Checks an HTTP archive against the schema of HAR 1.2 (the package har-validator) and prints how many entries it has.
import { readFileSync } from "node:fs";
import validator from "har-validator/lib/promise.js";

const har = JSON.parse(readFileSync(process.argv[2], "utf8"));
validator.har(har).then(
    () => console.log(har.log.entries.length),
    (error) => {
        console.error(JSON.stringify(error.errors ?? String(error), null, 1));
        process.exit(1);
    },
);
