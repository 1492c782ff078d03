// Bodies of requests, judged by the schemas of Vercel's own SDK: what does not fit, and fields that it does not know.
//     node vercel_bodies.mjs < [{"name", "module", "schema", "whole", "path": {NAME: VALUE}, "body"}]    a line for each fault
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
for (const { name, module, schema, whole, path, body } of JSON.parse(Buffer.concat(chunks).toString())) {
  const found = await import(module);
  const given = whole ? body : { ...path, requestBody: body };
  const parsed = found[`${schema}$outboundSchema`].safeParse(given);
  if (!parsed.success) {
    console.log(`${name}: ${JSON.stringify(parsed.error.issues ?? parsed.error)}`);
    continue;
  }
  const known = whole ? parsed.data : parsed.data.RequestBody;
  for (const field of unknown(body, known)) console.log(`${name}: no such field in the body: ${field}`);
}

// the schemas drop what they do not know
function unknown(sent, kept, at = "") {
  if (sent === null || typeof sent !== "object") return [];
  if (kept === null || typeof kept !== "object") return [at];
  return Object.keys(sent).flatMap((key) =>
    key in kept ? unknown(sent[key], kept[key], `${at}${at && "."}${key}`) : [`${at}${at && "."}${key}`],
  );
}
