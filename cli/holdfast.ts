// The executable: started by bin/holdfast in a checkout and by bin/holdfast.js of the package.
import { main } from "./main.ts";
import { processShell } from "./process-shell.ts";

process.exitCode = await main(process.argv.slice(2), processShell());
