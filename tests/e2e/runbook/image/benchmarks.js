// What `k6 run` does to foco.mx: few requests, one after the other, and thresholds on their times and failures.
import http from "k6/http";

export const options = {
  vus: 1,
  iterations: 20,
  thresholds: { http_req_duration: ["p(95)<5000"], http_req_failed: ["rate<0.01"] },
};

export default function () {
  http.get(`${__ENV.BASE_URL}/api/health`);
}
