// The least that a fastify server can do, for http.mjs. Prints its port.
import fastify from 'fastify';

const app = fastify();
app.get('/', async () => ({ hello: 'world' }));
await app.listen({ host: '127.0.0.1', port: 0 });
console.log(app.server.address().port);
