// What `@anthropic-ai/sdk` does with tools and structured outputs; prints what came of it as JSON.
// The base URL and the key are in the environment, where that SDK looks for them.
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { betaStandardSchemaTool } from "@anthropic-ai/sdk/helpers/beta/standard-schema";
import { jsonSchemaOutputFormat } from "@anthropic-ai/sdk/helpers/json-schema";

const client = new Anthropic({ maxRetries: 0 });
const asking = (text) => ({ model: "claude-opus-5-5", max_tokens: 200, messages: [{ role: "user", content: text }] });
const number = { type: "object", properties: { number: { type: "integer" } }, required: ["number"] };
const weather = {
  name: "get_weather",
  input_schema: {
    type: "object",
    properties: { city: { type: "string" }, days: { type: "array", items: { type: "integer" } } },
    required: ["city"],
  },
};

// A tool that says what it did, and what it was asked to do.
function stepping(make = betaTool, inputSchema = number) {
  const done = [];
  const run = (input) => {
    done.push(input.number);
    return `step ${input.number} done`;
  };
  return { done, tool: make({ name: "do_step", description: "Do one step.", inputSchema, run }) };
}

async function runner() {
  const { done, tool } = stepping();
  const messages = [];
  for await (const message of client.beta.messages.toolRunner({ ...asking("Three steps."), tools: [tool] })) {
    messages.push(message);
  }
  return { done, reasons: messages.map((each) => each.stop_reason), text: messages.at(-1).content[0].text };
}

async function streamed_runner() {
  const { done, tool } = stepping();
  const events = [];
  const texts = [];
  for await (const stream of client.beta.messages.toolRunner({ ...asking("Three steps."), tools: [tool], stream: true })) {
    stream.on("inputJson", (piece, snapshot) => events.push([piece, structuredClone(snapshot)]));
    texts.push(await stream.finalMessage().then((message) => message.content[0].text ?? null));
  }
  return { done, events, texts };
}

// Each call starts as soon as its block has ended.
async function eager_runner() {
  const { done, tool } = stepping();
  const asked = { ...asking("Three steps at once."), tools: [tool], stream: true, runToolsEagerly: true };
  const final = await client.beta.messages.toolRunner(asked);
  return { done, text: final.content[0].text };
}

// The SDK checks the input itself before it runs the tool; a schema of one's own stands for a library of schemas.
async function checked_runner() {
  const validate = (value) =>
    Number.isInteger(value.number) && value.number < 3 ? { value } : { issues: [{ message: "too many" }] };
  const schema = { "~standard": { version: 1, vendor: "tests", validate, jsonSchema: { input: () => number } } };
  const { done, tool } = stepping(betaStandardSchemaTool, schema);
  const runner = client.beta.messages.toolRunner({ ...asking("Three steps."), tools: [tool] });
  const final = await runner.runUntilDone();
  return { done, text: final.content[0].text, last: runner.params.messages.findLast((each) => each.role === "user") };
}

async function gathered() {
  const asked = { ...asking("How is it?"), tools: [weather] };
  const stream = client.messages.stream(asked);
  const pieces = [];
  const blocks = [];
  let early = null;
  stream.on("inputJson", (piece, snapshot) => {
    pieces.push(piece);
    early ??= structuredClone(snapshot);
  });
  stream.on("contentBlock", (block) => blocks.push(block));
  const final = await stream.finalMessage();
  const whole = await client.messages.create(asked);
  return { pieces, early, blocks, final, whole };
}

async function forced() {
  const tool_choice = { type: "tool", name: "get_weather" };
  const message = await client.messages.create({ ...asking("How is it?"), tools: [weather], tool_choice });
  return { content: message.content.map(({ type, name, input }) => ({ type, name, input })), reason: message.stop_reason };
}

// The helper closes objects and moves into descriptions what the API does not take, such as the bound.
const sum = {
  type: "object",
  properties: { question: { type: "string", minLength: 3 }, answer: { type: "integer", maximum: 10 } },
  required: ["question", "answer"],
};

async function parsed() {
  const asked = { ...asking("What is two and two?"), output_config: { format: jsonSchemaOutputFormat(sum) } };
  const message = await client.messages.parse(asked);
  const streamed = await client.messages.stream(asked).finalMessage();
  const beta = await client.beta.messages.parse(asked);
  return {
    text: message.content[0].text,
    parsed: message.parsed_output,
    streamed: streamed.parsed_output,
    beta: beta.parsed_output,
    reason: message.stop_reason,
  };
}

const told = {};
for (const attempt of [runner, streamed_runner, eager_runner, checked_runner, gathered, forced, parsed]) {
  told[attempt.name] = await attempt();
}
console.log(JSON.stringify(told));
