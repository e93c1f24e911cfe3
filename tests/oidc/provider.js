// A certified OpenID provider for tests: prints its address, serves until its standard input ends, and does what is
// POSTed to /control: {account, claims, refuse, rotate}. CLOCK_OFFSET: by how many seconds its clock is wrong.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";

const offset = Number(process.env.CLOCK_OFFSET ?? 0) * 1000;
const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor(...given) {
    if (given.length === 0) super(RealDate.now() + offset);
    else super(...given);
  }
  static now() {
    return RealDate.now() + offset;
  }
};

// Only now, so that it tells the wrong time, too.
const { Provider } = await import("oidc-provider");

const redirect = process.env.REDIRECT_URI;
const home = process.env.HOME_URI;
let wanted = { account: "1", claims: {}, refuse: false };
let issuer;
let provider;

function make() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const key = { ...privateKey.export({ format: "jwk" }), use: "sig", alg: "RS256", kid: randomBytes(6).toString("hex") };
  const client = (id) => ({
    client_id: id,
    client_secret: "a secret: with / and %",
    redirect_uris: [redirect],
    post_logout_redirect_uris: [home],
    response_types: ["code"],
    grant_types: ["authorization_code"],
  });
  return new Provider(issuer, {
    clients: [client("marmot"), client("another")],
    jwks: { keys: [key] },
    cookies: { keys: ["for tests alone"] },
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["preferred_username", "given_name", "family_name", "groups"] },
    features: { devInteractions: { enabled: false } },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...wanted.claims }) }),
  });
}

// Signs in and agrees at once, as whoever is wanted; or refuses.
async function interact(request, response) {
  const { prompt, params } = await provider.interactionDetails(request, response);
  let result;
  if (wanted.refuse) {
    result = { error: "access_denied", error_description: "The person said no." };
  } else if (prompt.name === "login") {
    result = { login: { accountId: wanted.account } };
  } else {
    const grant = new provider.Grant({ accountId: wanted.account, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

async function control(request, response) {
  let text = "";
  for await (const part of request) text += part;
  const { rotate, ...rest } = JSON.parse(text);
  wanted = { ...wanted, ...rest };
  if (rotate) provider = make();
  response.end("{}");
}

const server = createServer((request, response) => {
  const answer = request.url === "/control" ? control : request.url.startsWith("/interaction/") ? interact : null;
  if (!answer) return provider.callback()(request, response);
  answer(request, response).catch((error) => {
    response.statusCode = 500;
    response.end(String(error));
  });
});
server.listen(0, "127.0.0.1", () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  provider = make();
  console.log(issuer);
});
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
