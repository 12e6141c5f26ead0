// A shopping trip by openapi-typescript and openapi-fetch: two carts, a merge, a conflict, a replay and an order.
// Nothing here is cast: what the server takes and gives is what the description says.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Cart = components["schemas"]["Cart"];
type Problem = components["schemas"]["Problem"];

const [base, item] = process.argv.slice(2);
if (!base || !item) throw new Error("usage: trip-fetch URL ITEM");
const api = createClient<paths>({ baseUrl: base });
const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

function expect(what: string, holds: boolean): asserts holds {
  if (!holds) throw new Error(what);
}

function is<T>(what: string, answer: { data?: T; error?: Problem; response: Response }): T {
  if (answer.data === undefined) throw new Error(`${what}: ${JSON.stringify(answer.error)}`);
  return answer.data;
}

const guest = is("a guest", await api.POST("/v1/guests", { body: { currency: "SGD" } }));
const add = () =>
  api.POST("/v1/cart/items", {
    ...bearer(guest.token),
    params: { header: { "Idempotency-Key": "trip-add" } },
    body: { item_id: item, quantity: 2, variant: { size: "L" } },
  });
const cart: Cart = is("an add", await add());
expect("what was given is shown", cart.lines[0]?.variant?.["size"] === "L");
const again = await add();
expect("a retry is told", again.response.headers.get("Idempotent-Replayed") === "true");

const refused = await api.POST("/v1/cart/commands", {
  ...bearer(guest.token),
  params: { header: { "Idempotency-Key": "trip-batch" } },
  body: { commands: [{ op: "clear" }, { op: "add", item_id: "NOPE", quantity: 1 }] },
});
expect("a batch is refused", refused.error !== undefined);
expect("its code is known", refused.error.code === "item_unknown");
expect("its command is named", refused.error.errors?.[0]?.pointer === "#/commands/1");
expect("and what to do", refused.error.retry === "never");

const user = is("a user", await api.POST("/v1/dev/tokens", { body: { user_id: `trip-${guest.guest_id}` } }));
const merged = is(
  "a merge",
  await api.POST("/v1/cart/merge", {
    ...bearer(user.token),
    params: { header: { "Idempotency-Key": "trip-merge" } },
    body: { guest_token: guest.token },
  }),
);
const stale = await api.POST("/v1/cart/checkout", {
  ...bearer(user.token),
  params: { header: { "Idempotency-Key": "trip-stale", "If-Match": '"1.0"' } },
  body: { expected_total: merged.totals.total },
});
expect("an old version is refused", stale.error?.code === "version_mismatch");
expect("with the version of now", stale.error.current_version === merged.version);
const placed = await api.POST("/v1/cart/checkout", {
  ...bearer(user.token),
  params: { header: { "Idempotency-Key": "trip-order", "If-Match": `"${merged.version}"` } },
  body: { expected_total: merged.totals.total },
});
const order = is("an order", placed);
expect("it says where it is", placed.response.headers.get("Location") === `/v1/orders/${order.id}`);
const read = await api.GET("/v1/orders/{order_id}", {
  ...bearer(user.token),
  params: { path: { order_id: order.id } },
});
expect("the order is found", is("the order", read).state === "pending_payment");
console.log("done");
