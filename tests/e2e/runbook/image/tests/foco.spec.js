// The tests of foco.mx: requests, no browser.
const { test, expect } = require("@playwright/test");

const HEALTH = "/api/health";
const METRICS = "/api/metrics";
const ORGANIZATIONS = "/api/organizations";
const bearer = (token) => ({ headers: { Authorization: `Bearer ${token}` } });

const silent = async (answer) => {
  expect(answer.status()).toBe(401);
  expect(await answer.text()).not.toContain("uptime");
};

test("P0 the site answers", async ({ request }) => {
  expect((await request.get(HEALTH)).status()).toBe(200);
});

test("P0 the site is well", async ({ request }) => {
  expect(await (await request.get(HEALTH)).json()).toMatchObject({ status: "ok" });
});

test("says its version", async ({ request }) => {
  expect((await (await request.get(HEALTH)).json()).version).toMatch(/^\d+\.\d+\.\d+/);
});

test("speaks JSON", async ({ request }) => {
  const answer = await request.get(HEALTH);
  expect(answer.status()).toBe(200);
  expect(answer.headers()["content-type"]).toMatch(/^application\/json\b/);
});

test("has a head", async ({ request }) => {
  expect((await request.head(HEALTH)).status()).toBe(200);
});

test("health cannot be written", async ({ request }) => {
  expect((await request.post(HEALTH)).status()).toBe(405);
});

test("health cannot be deleted", async ({ request }) => {
  expect((await request.delete(HEALTH)).status()).toBe(405);
});

test("metrics are not for strangers @security", async ({ request }) => {
  await silent(await request.get(METRICS));
});

test("a wrong key opens nothing @security", async ({ request }) => {
  await silent(await request.get(METRICS, bearer("wrong")));
});

test("organizations are not for strangers @security", async ({ request }) => {
  expect((await request.get(ORGANIZATIONS)).status()).toBe(401);
});

test("an empty key opens nothing @security", async ({ request }) => {
  expect((await request.get(ORGANIZATIONS, bearer(""))).status()).toBe(401);
});

test("what is not there is not told @security", async ({ request }) => {
  expect((await request.get("/api/nothing")).status()).toBe(401);
});
