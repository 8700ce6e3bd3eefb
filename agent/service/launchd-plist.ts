// The agent's launchd definition for macOS. Never loaded by a launchd in our tests; only its text is held.
import { serviceWords, type ServiceDefinition } from "./definition.ts";
import { markup } from "./markup.ts";

export function plistPath({ name }: ServiceDefinition): string {
  return `/Library/LaunchDaemons/${name}.plist`;
}

/**
 * launchd knows neither readiness nor a watchdog, nor exit codes after which a restart is useless: it starts the agent again
 * after every end, at most once in ThrottleInterval.
 */
export function renderPlist(definition: ServiceDefinition): string {
  const { name, user, dataPath } = definition;
  const words = serviceWords(definition).map((word) => `    <string>${markup(word)}</string>`);
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>${name}</string>
  <key>ProgramArguments</key>
  <array>
${words.join("\n")}
  </array>
  <key>UserName</key>
  <string>${user}</string>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <true/>
  <key>ThrottleInterval</key>
  <integer>10</integer>
  <!-- Scripts outlive the agent: launchd would end its whole process group. -->
  <key>AbandonProcessGroup</key>
  <true/>
  <key>ExitTimeOut</key>
  <integer>30</integer>
  <key>HardResourceLimits</key>
  <dict>
    <key>Core</key>
    <integer>0</integer>
    <key>NumberOfFiles</key>
    <integer>65536</integer>
  </dict>
  <key>StandardErrorPath</key>
  <string>${markup(`${dataPath}/agent.log`)}</string>
</dict>
</plist>
`;
}
