// Vercel's own SDK against a stand-in: it checks the shape of each request and of each answer, and says what does not fit.
//     node vercel_sdk.mjs PATH_OF_THE_SDK URL TOKEN
const [, , path, serverURL, bearerToken] = process.argv;
const { Vercel } = await import(path);
const vercel = new Vercel({ bearerToken, serverURL, retryConfig: { strategy: "none" } });
const team = { teamId: "team_foco" };
const project = { idOrName: "foco", ...team };
const first = { projectId: "prj_foco", deploymentId: "dpl_1", ...team };
const second = { ...first, deploymentId: "dpl_2" };
const variable = { key: "FLAG", value: "on", type: "plain", target: ["production"], comment: "a flag" };
const source = { type: "github", repoId: 4711, ref: "v2.4.0" };
const wanted = { name: "foco", project: "prj_foco", target: "production", gitSource: source, meta: { gatewrightKey: "7.a" } };
let made;
const steps = {
  user: () => vercel.user.getAuthUser(),
  team: () => vercel.teams.getTeam(team),
  create: () => vercel.deployments.createDeployment({ forceNew: "1", ...team, requestBody: wanted }),
  deployment: () => vercel.deployments.getDeployment({ idOrUrl: "dpl_2", ...team }),
  deployments: () => vercel.deployments.getDeployments({ projectId: "prj_foco", target: "production", ...team }),
  events: () => vercel.deployments.getDeploymentEvents({ idOrUrl: "dpl_2", builds: 1, limit: 5, ...team }),
  promote: () => vercel.projects.requestPromote(second),
  settle: () => settle(),
  promoteAliases: () => vercel.projects.listPromoteAliases({ projectId: "prj_foco", failedOnly: true, limit: 20, ...team }),
  rollback: () => vercel.projects.requestRollback({ ...first, description: "7.rollback.a.site.0" }),
  rollingRelease: () => vercel.rollingRelease.getRollingRelease(project),
  variables: () => vercel.projects.filterProjectEnvs(project),
  setVariable: () => vercel.projects.createProjectEnv({ ...project, upsert: "true", requestBody: variable }),
  newVariable: async () => (made = (await vercel.projects.filterProjectEnvs(project)).envs.find((item) => item.key === "FLAG")),
  variable: () => vercel.projects.getProjectEnv({ ...project, id: made.id }),
  editVariable: () => vercel.projects.editProjectEnv({ ...project, id: made.id, requestBody: { value: "off", comment: "b" } }),
  removeVariable: () => vercel.projects.removeProjectEnv({ ...project, id: made.id }),
  sharedVariables: () => vercel.environment.listSharedEnvVariable({ projectId: "prj_foco", ...team }),
  remove: () => vercel.deployments.deleteDeployment({ id: "dpl_2", ...team }),
};

async function settle() {
  const headers = { Authorization: `Bearer ${bearerToken}` };
  for (let look = 0; look < 5; look++) {
    await fetch(`${serverURL}/v9/projects/foco?rollbackInfo=true&teamId=team_foco`, { headers });
  }
}

for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`not ok ${name}: ${error.name}: ${error.pretty ? error.pretty() : error.message}`);
  }
}
