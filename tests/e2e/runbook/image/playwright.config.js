const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { defineConfig } = require("@playwright/test");

// One worker: the tests are requests, and a worker is a process that loads all of Playwright.
module.exports = defineConfig({
  testDir: "tests",
  outputDir: join(tmpdir(), "test-results"),
  workers: 1,
  maxFailures: 1, // each failure would cost a new worker
  use: { baseURL: process.env.BASE_URL },
  projects: [{ name: "api" }],
});
