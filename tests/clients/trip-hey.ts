// The same description through @hey-api/openapi-ts.
import { client } from "./hey/client.gen.js";
import { addItem, createGuest, getCart } from "./hey/index.js";

const [base, item] = process.argv.slice(2);
if (!base || !item) throw new Error("usage: trip-hey URL ITEM");
client.setConfig({ baseUrl: base });

const guest = await createGuest({ body: {}, throwOnError: true });
const auth = guest.data.token;
const added = await addItem({
  auth,
  headers: { "Idempotency-Key": "trip-hey" },
  body: { item_id: item, quantity: 1 },
  throwOnError: true,
});
const cart = await getCart({ auth, throwOnError: true });
if (cart.data.version !== added.data.version) throw new Error("the cart is not the one that was written");
const refused = await addItem({ auth, headers: { "Idempotency-Key": "no" }, body: { item_id: "NOPE", quantity: 1 } });
if (refused.error?.code !== "item_unknown") throw new Error("an unknown item is not refused");
console.log("done");
