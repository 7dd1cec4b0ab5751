// send.cjs CLIENT URL COUNT: as send.py, with the loggers of Node. NODE_PATH names their folder.
'use strict'

const START_MS = 1_772_366_400_000
const LEVELS = ['info', 'warn', 'error']

const message = (client, i) => `record ${i} of ${client}`
const url = (text) => new URL(text)

function fail(reason) {
  console.error('Error:', reason)
  process.exit(1)
}

function winstonLogger(client, transport, count, fieldsOf) {
  const winston = require('winston')
  const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] })
  for (let i = 0; i < count; i++) {
    logger.log({ level: LEVELS[i % 3], message: message(client, i), ...fieldsOf(i) })
  }
  return logger
}

// winston's own transport: a request for each record.
async function winston_http(to, count) {
  const winston = require('winston')
  const { hostname, port } = url(to)
  const agent = new (require('node:http').Agent)({ keepAlive: true, maxSockets: 32 })
  const path = '/insert/jsonline?_stream_fields=service'
  const transport = new winston.transports.Http({ host: hostname, port, path, agent })
  const answered = new Promise((resolve) => {
    let logged = 0
    transport.on('logged', () => ++logged === count && resolve())
  })
  transport.on('warn', fail)
  winstonLogger('winston_http', transport, count, (i) => {
    const timestamp = new Date(START_MS + i * 1000).toISOString()
    return { timestamp, service: 'shop', n: i, rack: `rack-${i % 5}` }
  })
  await answered
  agent.destroy()
}

// Protobuf and snappy.
async function winston_loki(to, count) {
  const transport = new (require('winston-loki'))({
    host: to,
    json: false,
    interval: 1,
    replaceTimestamp: false,
    format: require('winston').format.printf((info) => info.message),
    onConnectionError: fail,
  })
  winstonLogger('winston_loki', transport, count, (i) => {
    return { timestamp: START_MS + i * 1000, labels: { app: 'shop', rack: `rack-${i % 5}` } }
  })
  // winston hands records on in later turns of the loop.
  await new Promise((resolve) => setTimeout(resolve, 500))
  await transport.flush()
  process.exit(0)
}

// Writes `count` records to a stream of pino's, each with a time of its own.
function pinoWrites(client, stream, count, fieldsOf, options = {}) {
  let i = 0
  const timestamp = () => `,"time":${START_MS + i * 1000}`
  const logger = require('pino')({ base: { hostname: 'web-1' }, timestamp, ...options }, stream)
  for (; i < count; i++) logger[LEVELS[i % 3]](fieldsOf(i), message(client, i))
}

const closed = (transport) =>
  new Promise((resolve, reject) => {
    transport.on('error', reject)
    transport.on('close', resolve)
    transport.end()
  })

// Elasticsearch's own client with its bulk helper.
async function pino_elasticsearch(to, count) {
  const stream = require('pino-elasticsearch')({
    node: to,
    index: 'logs-shop',
    esVersion: 8,
    opType: 'create',
    flushBytes: 100_000,
  })
  for (const event of ['error', 'insertError', 'unknown']) stream.on(event, fail)
  const inserted = new Promise((resolve) => stream.on('insert', resolve))
  pinoWrites('pino_elasticsearch', stream, count, (i) => ({ n: i, rack: `rack-${i % 5}` }))
  stream.end()
  const { total, failed, successful } = await inserted
  if (total !== count || failed !== 0 || successful !== count) fail(`${successful} of ${total}`)
}

async function pino_loki(to, count) {
  const transport = require('pino').transport({
    target: require.resolve('pino-loki'),
    options: {
      host: to,
      labels: { app: 'shop' },
      propsToLabels: ['rack'],
      logFormat: '{msg}',
      batching: { interval: 1, maxBufferSize: 0 },
    },
  })
  const fields = (i) => ({ rack: `rack-${i % 5}`, meta: { n: i } })
  pinoWrites('pino_loki', transport, count, fields)
  await closed(transport)
}

// JSON lines over TCP.
async function pino_socket(to, count) {
  const { hostname, port } = url(`tcp://${to}`)
  const transport = require('pino').transport({
    target: require.resolve('pino-socket'),
    options: { address: hostname, port: Number(port), mode: 'tcp' },
  })
  transport.on('socketError', fail)
  // JSON lines are stored as they are: with a word as the level instead of pino's number.
  const options = { formatters: { level: (level) => ({ level }) } }
  const fields = (i) => ({ n: i, rack: `rack-${i % 5}` })
  pinoWrites('pino_socket', transport, count, fields, options)
  await closed(transport)
}

const clients = { winston_http, winston_loki, pino_elasticsearch, pino_loki, pino_socket }
const [client, to, count] = process.argv.slice(2)
clients[client](to, Number(count)).catch(fail)
