// Asks for usage with the vendor's JavaScript client, and says as JSON what came of each question.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const { BatchClient } = createRequire(process.cwd() + "/")("@speechmatics/batch-client");
const url = process.argv[2];
const answers = [];
for (const [apiKey, params] of JSON.parse(readFileSync(0, "utf8"))) {
  const client = new BatchClient({ apiKey, apiUrl: url, appId: "tallystick-tests" });
  try {
    answers.push(await client.get("/v2/usage", "application/json", params));
  } catch (error) {
    answers.push({ raised: error.name, said: error.message });
  }
}
console.log(JSON.stringify(answers));
