// An independent Oblivious HTTP client and gateway (RFC 9458) on hpke-js, and Binary HTTP on bhttp-js.
// One JSON command a line on stdin, one JSON answer a line on stdout; byte strings are hex.
import { createInterface } from "node:readline";
import { webcrypto as crypto } from "node:crypto";
import { Aes128Gcm, Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { XWing } from "@hpke/hybridkem-x-wing";
import { BHttpDecoder, BHttpEncoder } from "bhttp-js";

const ascii = (text) => new TextEncoder().encode(text);
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const unhex = (text) => new Uint8Array(Buffer.from(text, "hex"));
const join = (...parts) => new Uint8Array(Buffer.concat(parts.map((part) => new Uint8Array(part))));

const KEMS = { 0x0020: DhkemX25519HkdfSha256, 0x647a: XWing };
const AEADS = { 1: { make: Aes128Gcm, keySize: 16 }, 2: { make: Aes256Gcm, keySize: 32 } };
const held = []; // contexts that wait for their second step, by index

function suiteOf(header) {
  const view = new DataView(header.buffer, header.byteOffset, 7);
  const kem = new KEMS[view.getUint16(1)]();
  const aead = AEADS[view.getUint16(5)];
  const suite = new CipherSuite({ kem, kdf: new HkdfSha256(), aead: new aead.make() });
  return { suite, kem, keySize: aead.keySize, info: join(ascii("message/bhttp request"), [0], header) };
}

async function responseKey(context, keySize, enc, nonce, usage) {
  const secret = await context.export(ascii("message/bhttp response"), Math.max(keySize, 12));
  const base = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveBits"]);
  const derive = (info, size) =>
    crypto.subtle.deriveBits({ name: "HKDF", hash: "SHA-256", salt: join(enc, nonce), info: ascii(info) }, base, size * 8);
  const key = await crypto.subtle.importKey("raw", await derive("key", keySize), "AES-GCM", false, [usage]);
  return { key, iv: new Uint8Array(await derive("nonce", 12)) };
}

const COMMANDS = {
  // The client: seal a request to a public key.
  async seal_request({ header, public_key, request }) {
    const { suite, kem, keySize, info } = suiteOf(unhex(header));
    const recipientPublicKey = await kem.deserializePublicKey(unhex(public_key));
    const context = await suite.createSenderContext({ recipientPublicKey, info });
    const sealed = await context.seal(unhex(request));
    held.push({ context, keySize, enc: context.enc });
    return { id: held.length - 1, data: hex(join(unhex(header), context.enc, sealed)) };
  },
  async open_response({ id, data }) {
    const { context, keySize, enc } = held[id];
    const [nonce, sealed] = [unhex(data).slice(0, keySize), unhex(data).slice(keySize)];
    const { key, iv } = await responseKey(context, keySize, enc, nonce, "decrypt");
    return { response: hex(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, sealed)) };
  },
  // The gateway: make a key, open a request, seal the answer.
  async make_key({ header }) {
    const { kem } = suiteOf(unhex(header));
    const pair = await kem.generateKeyPair();
    held.push(pair.privateKey);
    return { id: held.length - 1, public_key: hex(await kem.serializePublicKey(pair.publicKey)) };
  },
  async open_request({ id, data }) {
    const bytes = unhex(data);
    const { suite, kem, keySize, info } = suiteOf(bytes.slice(0, 7));
    const enc = bytes.slice(7, 7 + kem.encSize);
    const context = await suite.createRecipientContext({ recipientKey: held[id], enc, info });
    const request = await context.open(bytes.slice(7 + kem.encSize));
    held.push({ context, keySize, enc });
    return { id: held.length - 1, request: hex(request) };
  },
  async seal_response({ id, response }) {
    const { context, keySize, enc } = held[id];
    const nonce = crypto.getRandomValues(new Uint8Array(keySize));
    const { key, iv } = await responseKey(context, keySize, enc, nonce, "encrypt");
    return { data: hex(join(nonce, await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, unhex(response)))) };
  },
  // Binary HTTP.
  async decode_request({ data }) {
    const request = new BHttpDecoder().decodeRequest(unhex(data));
    const content = hex(await request.arrayBuffer());
    return { method: request.method, url: request.url, headers: [...request.headers], content };
  },
  async decode_response({ data }) {
    const response = new BHttpDecoder().decodeResponse(unhex(data));
    return { status: response.status, headers: [...response.headers], content: hex(await response.arrayBuffer()) };
  },
  async encode_request({ method, url, headers, content }) {
    const body = content ? unhex(content) : undefined;
    return { data: hex(await new BHttpEncoder().encodeRequest(new Request(url, { method, headers, body }))) };
  },
  async encode_response({ status, headers, content }) {
    return { data: hex(await new BHttpEncoder().encodeResponse(new Response(unhex(content), { status, headers }))) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line);
  let answer;
  try {
    answer = await COMMANDS[command](rest);
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
