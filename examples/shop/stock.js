// The stock counts what is left: GET /take/ITEM takes one.
const http = require('node:http');

const left = { tea: 1000, coffee: 1000, cake: 1000 };

http.createServer((request, response) => {
  if (request.url === '/healthz') return response.end('well\n');
  const item = request.url.replace('/take/', '');
  if (!left[item]) {
    response.statusCode = 404;
    return response.end('nothing left\n');
  }
  left[item]--;
  response.end(`${left[item]}\n`);
}).listen(process.env.PORT || 8080, process.env.HOST || '0.0.0.0');
