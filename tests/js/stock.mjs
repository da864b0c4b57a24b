// Holds a conversation with the OpenAI Agents SDK for JavaScript: node stock.mjs URL PATIENCE_S QUESTION.raw...
// Each question is raw PCM16 at 24 kHz. Prints one line of JSON: what the SDK's own session saw.
import { readFileSync } from "node:fs";
import { RealtimeAgent, RealtimeSession, tool } from "@openai/agents/realtime";
import { z } from "zod";

const [url, patienceS, ...questions] = process.argv.slice(2);
const seen = { calls: [], errors: [], audio: 0, interrupted: 0, responses: 0, kinds: {} };

const setLight = tool({
  name: "set_light",
  description: "Switch the light of a room.",
  parameters: z.object({ room: z.string(), on: z.boolean() }),
  execute: async ({ room, on }) => {
    seen.calls.push([room, on]);
    session.transport.updateSessionConfig({ ...config, toolChoice: "none", tools: [] });
    return "ok";
  },
});

const agent = new RealtimeAgent({ name: "Test", instructions: "Be kind.", tools: [setLight] });
const config = {
  toolChoice: "required",
  audio: { input: { turnDetection: { type: "server_vad", silenceDurationMs: 600 } } },
};
const session = new RealtimeSession(agent, {
  transport: "websocket",
  model: "antiphon-nano",
  tracingDisabled: true,
  config,
});
session.on("error", (error) => seen.errors.push(String(error?.error?.message ?? error?.error ?? error)));
session.on("audio", (event) => (seen.audio += event.data.byteLength));
session.on("audio_interrupted", () => (seen.interrupted += 1));
session.transport.on("*", (event) => {
  seen.kinds[event.type] = (seen.kinds[event.type] ?? 0) + 1;
  if (event.type === "response.done") seen.responses += 1;
});

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const bytes = (buffer) => buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);

async function speak(pcm) {
  for (let at = 0; at < pcm.length; at += 960) {
    session.sendAudio(bytes(pcm.subarray(at, at + 960)));
    await sleep(2);
  }
}

await session.connect({ apiKey: "none", url });
for (const path of questions) {
  await speak(Buffer.concat([readFileSync(path), Buffer.alloc(2 * 24 * 1500)]));
  await sleep(1000 * Number(patienceS));
}
await sleep(500);
session.interrupt();
await sleep(300);
session.close();
console.log(JSON.stringify(seen));
process.exit(0);
