// What `@anthropic-ai/sdk` is asked to do; prints what came of it as JSON.
// The base URL and the key are in the environment, where that SDK looks for them.
import Anthropic, { APIError, APIUserAbortError } from "@anthropic-ai/sdk";
import { VERSION } from "@anthropic-ai/sdk/version";

const client = new Anthropic({ maxRetries: 0 });
const asked = { model: "claude-opus-5-5", max_tokens: 20, messages: [{ role: "user", content: "Hello" }] };
const tool = {
  name: "get_weather",
  description: "The weather in a city",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

async function version() {
  return VERSION;
}

async function create() {
  const { data, response } = await client.messages.create({ ...asked, system: "Be brief." }).withResponse();
  return { message: data, request_id: data._request_id, header: response.headers.get("request-id") };
}

async function stream() {
  const texts = [];
  const events = [];
  const answer = client.messages.stream({ ...asked, system: "Be brief." });
  answer.on("text", (text) => texts.push(text));
  answer.on("streamEvent", (event) => events.push(event.type));
  const final = await answer.finalMessage();
  const raw = [];
  for await (const event of await client.messages.create({ ...asked, stream: true })) raw.push(event.type);
  return { texts, events, raw, final, whole: await answer.finalText(), request_id: answer.request_id };
}

async function count() {
  const { max_tokens, ...counted } = { ...asked, tools: [tool] };
  const message = await client.messages.create({ ...counted, max_tokens: 1 });
  const told = await client.messages.countTokens(counted);
  const plain = await client.messages.countTokens({ ...counted, tools: [] });
  return { with_tool: told.input_tokens, plain: plain.input_tokens, billed: message.usage.input_tokens };
}

async function tools() {
  const call = { type: "tool_use", id: "toolu_1", name: "get_weather", input: { city: "Paris" } };
  const result = { type: "tool_result", tool_use_id: "toolu_1", content: [{ type: "text", text: "Sunny." }] };
  const messages = [...asked.messages, { role: "assistant", content: [call] }, { role: "user", content: [result] }];
  const message = await client.messages.create({ ...asked, messages, tools: [tool], tool_choice: { type: "auto" } });
  return { text: message.content[0].text, stop_reason: message.stop_reason };
}

async function beta() {
  const betas = ["context-management-2025-06-27"];
  const edits = [{ type: "clear_tool_uses_20250919" }];
  const message = await client.beta.messages.create({ ...asked, betas, context_management: { edits } });
  return message.content[0].text;
}

async function models() {
  const all = [];
  for await (const model of client.models.list({ limit: 3 })) all.push(model.id);
  const page = await client.models.list({ limit: 3 });
  const one = await client.models.retrieve("claude-opus-5-5");
  return { all, first: page.data.map((model) => model.id), more: page.hasNextPage(), one: one.id };
}

async function errors() {
  const stranger = new Anthropic({ maxRetries: 0, apiKey: "sk-ant-api03-wrong" });
  return {
    key: await refusal(stranger.messages.create(asked)),
    model: await refusal(client.messages.create({ ...asked, model: "gpt-4" })),
    messages: await refusal(client.messages.create({ ...asked, messages: [] })),
    large: await refusal(client.messages.create({ ...asked, system: "x".repeat(60000) })),
    stream: await refusal(client.messages.stream({ ...asked, messages: [] }).finalMessage()),
    retrieve: await refusal(client.models.retrieve("gpt-4")),
  };
}

async function refusal(attempt) {
  try {
    await attempt;
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    const told = { status: error.status, type: error.type, body: error.error, request_id: error.requestID };
    return { class: error.constructor.name, ...told };
  }
  return null;
}

// The server has one seat: what is asked after the abort is answered because the abort gave it back.
async function abort() {
  const slow = { ...asked, max_tokens: 1000, messages: [{ role: "user", content: "slow" }] };
  const answer = client.messages.stream(slow);
  let read = 0;
  let raised = null;
  answer.on("text", () => {
    read += 1;
    if (read === 5) answer.abort();
  });
  try {
    await answer.finalMessage();
  } catch (error) {
    raised = error instanceof APIUserAbortError;
  }
  const next = await client.messages.create(asked, { timeout: 10000 }).then(
    (message) => message.content[0].text,
    (error) => error.constructor.name,
  );
  return { read, raised, next };
}

const told = {};
for (const attempt of [version, create, stream, count, tools, beta, models, errors, abort]) {
  told[attempt.name] = await attempt();
}
console.log(JSON.stringify(told));
