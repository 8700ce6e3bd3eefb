// The line that a person pastes on a target without Node. Pure.
// Over https the script is as good as the certificate. Over http anybody on the way could change it, so it is checked against
// the sum that came with the token before a shell reads it; the script then checks the executable the same way.

export interface InstallLine {
  readonly url: string;
  readonly token: string;
  /** Of `/downloads/install.sh`. */
  readonly installerSha256: string;
}

export function installLine({ url, token, installerSha256 }: InstallLine): string {
  const server = quoted(url.replace(/\/+$/, ""));
  if (new URL(url).protocol === "https:") {
    return `curl -fsSL ${server}/install.sh | sh -s -- --server ${server} --token ${token}`;
  }
  return [
    `curl -fsSLO ${server}/downloads/install.sh`,
    `echo "${installerSha256}  install.sh" | sha256sum -c -`,
    `sh install.sh --server ${server} --token ${token}`,
  ].join(" && ");
}

function quoted(word: string): string {
  return /^[\w./:@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
