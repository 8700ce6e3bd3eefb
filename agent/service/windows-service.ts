// The agent's service definition for Windows, for WinSW (https://github.com/winsw/winsw): Node does not answer the service
// manager, which would end it after 30 s, so a program that does has to stand before it. Only its text is held by tests.
import { serviceWords, type ServiceDefinition } from "./definition.ts";
import { markup } from "./markup.ts";

export function windowsServicePath({ name }: ServiceDefinition): string {
  return `C:\\Program Files\\Holdfast\\${name}.xml`;
}

export function renderWindowsService(definition: ServiceDefinition): string {
  const { name, dataPath } = definition;
  const [executable = "", ...words] = serviceWords(definition);
  return `<service>
  <!-- Put WinSW beside this file as ${name}.exe, then: ${name}.exe install -->
  <id>${name}</id>
  <name>Holdfast agent (${name})</name>
  <description>Runs scripts for a Holdfast cluster, which it dials by itself.</description>
  <executable>${markup(executable)}</executable>
  <arguments>${markup(words.map(quoted).join(" "))}</arguments>
  <startmode>Automatic</startmode>
  <onfailure action="restart" delay="5 sec"/>
  <resetfailure>1 hour</resetfailure>
  <stoptimeout>30 sec</stoptimeout>
  <logpath>${markup(dataPath)}</logpath>
  <log mode="roll"/>
</service>
`;
}

/** As CommandLineToArgvW reads it; a backslash counts as itself unless a quote follows. */
function quoted(word: string): string {
  if (!/[\s"]/.test(word)) return word;
  return `"${word.replaceAll(/(\\*)"/g, String.raw`$1$1\"`).replace(/\\+$/, "$&$&")}"`;
}
