// The readable page of the API: plain HTML rendered from the OpenAPI document. No script, no other host. Every text is
// escaped, so a description can never become markup.
import { z } from "zod";

const operationSchema = z.object({
  summary: z.string().default(""),
  description: z.string().default(""),
  tags: z.array(z.string()).default([]),
  "x-permission": z.string().default(""),
  parameters: z
    .array(
      z.object({
        name: z.string(),
        in: z.string(),
        required: z.boolean().default(false),
        description: z.string().default(""),
        schema: z.unknown(),
      }),
    )
    .default([]),
  requestBody: z.object({ content: z.record(z.string(), z.object({ schema: z.unknown() })) }).optional(),
  responses: z.record(
    z.string(),
    z.object({
      description: z.string().default(""),
      content: z.record(z.string(), z.object({ schema: z.unknown() })).default({}),
    }),
  ),
});
type Operation = z.infer<typeof operationSchema>;

/** The part of an OpenAPI document that the page shows. */
export const openApiSchema = z.object({
  info: z.object({ title: z.string(), version: z.string(), description: z.string().default("") }),
  paths: z.record(z.string(), z.record(z.string(), operationSchema)),
});
export type OpenApi = z.infer<typeof openApiSchema>;

export function renderDocs(document: OpenApi): string {
  const routes = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const tags = [...new Set(routes.map((route) => route.operation.tags[0] ?? "other"))];
  const contents = tags.map((tag) => `<li><a href="#${escape(tag)}">${escape(tag)}</a></li>`).join("");
  const sections = tags.map((tag) => {
    const own = routes.filter((route) => (route.operation.tags[0] ?? "other") === tag);
    return `<section id="${escape(tag)}"><h2>${escape(tag)}</h2>${own.map(renderRoute).join("")}</section>`;
  });
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escape(document.info.title)} API</title><link rel="stylesheet" href="/api/docs.css"></head>
<body><header><h1>${escape(document.info.title)} API <small>${escape(document.info.version)}</small></h1>
<p>${escape(document.info.description)}</p>
<p>Send <code>Authorization: Bearer &lt;key&gt;</code>. The document behind this page: <a href="/api/openapi.json">/api/openapi.json</a></p>
<nav><ul>${contents}</ul></nav></header><main>${sections.join("")}</main></body></html>
`;
}

function renderRoute(route: { path: string; method: string; operation: Operation }): string {
  const { path, method, operation } = route;
  const permission =
    operation["x-permission"] === "" ? "" : `<span class="permission">${escape(operation["x-permission"])}</span>`;
  return `<article><h3><code>${method} ${escape(path)}</code> ${permission}</h3>
<p>${escape(operation.summary)}. ${escape(operation.description)}</p>${renderParameters(operation)}${renderBodies(operation)}</article>`;
}

function renderParameters(operation: Operation): string {
  if (operation.parameters.length === 0) return "";
  const rows = operation.parameters.map(
    (parameter) =>
      `<tr><td><code>${escape(parameter.name)}</code></td><td>${escape(parameter.in)}${parameter.required ? ", required" : ""}</td><td>${escape(parameter.description)}</td><td>${renderSchema(parameter.schema)}</td></tr>`,
  );
  return `<table><tr><th>Parameter</th><th>In</th><th>Meaning</th><th>Form</th></tr>${rows.join("")}</table>`;
}

function renderBodies(operation: Operation): string {
  const bodies = Object.entries(operation.requestBody?.content ?? {}).map(([type, body]) =>
    renderDetails(`Request: ${type}`, body.schema),
  );
  const answers = Object.entries(operation.responses).flatMap(([status, response]) =>
    Object.entries(response.content).map(([type, body]) => renderDetails(`Answer ${status}: ${type}`, body.schema)),
  );
  return [...bodies, ...answers].join("");
}

function renderDetails(title: string, schema: unknown): string {
  return `<details><summary>${escape(title)}</summary>${renderSchema(schema)}</details>`;
}

function renderSchema(schema: unknown): string {
  if (typeof schema !== "object" || schema === null) return "";
  return `<pre>${escape(JSON.stringify(schema, (key, value: unknown) => (key === "$schema" ? undefined : value), 2))}</pre>`;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

export const docsStyle = `:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; }
article { border-top: 1px solid #8886; padding: .5rem 0; }
h3 { margin: .5rem 0; }
small, .permission { font-weight: normal; opacity: .7; font-size: .85rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .875rem; }
pre { overflow-x: auto; margin: 0; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .5rem; border-bottom: 1px solid #8884; }
nav ul { display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; padding: 0; }
`;
