import {
  bytes, durationMs, filePath, listOf, listenSettings, logSettings, mapOf, oneOf, section, textOf, tunnelUrl, whole, type ConfigOf
} from '@holdfast/runtime'
import { z } from 'zod'

/** A lane's name that means: to local subscribers only. */
export const localOnly = 'local'

const laneName = {
  expected: 'a lane name of a-z, 0-9 and "-", at most 32 characters, other than "local"',
  pattern: /^(?!local$)[a-z][a-z0-9-]*$/, lengthMax: 32
}

/** Levels of an MQTT topic filter, each literal, `+`, or a name in braces; `#` may be the last. */
const filterPattern = /^(?:(?:[^+#{}/\0]*|\+|\{[a-z]+\})\/)*(?:[^+#{}/\0]*|\+|#|\{[a-z]+\})$/

const laneSettings = z.strictObject({
  priority: oneOf(['high', 'normal', 'low']).prefault('normal')
    .describe('High is committed before the others and has eight times their share of the link; low has the least.'),
  bytesMax: bytes({ min: 2 ** 16, max: 2 ** 40 }).prefault('512MiB').describe('Bytes that may wait for the cloud.'),
  ageMax: durationMs({ min: 1000, max: 3650 * 86_400_000 }).optional()
    .describe('Records that waited longer, counted in uptime, give way to a gap record; without it none do.'),
  overflow: oneOf(['reject', 'drop-oldest']).prefault('reject')
    .describe('At bytesMax: refuse new records, or let the oldest give way to a gap record.'),
  commitIntervalMs: whole({ max: 1000 }).prefault(0)
    .describe('How long a record may wait for others to share its fsync; its acknowledgement waits too.'),
  keepBytes: bytes({ max: 2 ** 40 }).prefault('8MiB')
    .describe('Acknowledged records stay readable on the node up to so many bytes.'),
  keepAge: durationMs({ max: 3650 * 86_400_000 }).prefault('1h')
    .describe('Acknowledged records stay readable on the node for so long.')
})

const routeSettings = z.strictObject({
  filter: textOf({
    expected: 'an MQTT topic filter that a device\'s topic can match (not $SYS, $share or $queue); a level may be {namespace} ' +
      'or {name}',
    pattern: filterPattern, accepts: filter => filter !== '' && !/^\$(SYS|share|queue)(\/|$)/.test(filter), lengthMax: 1024
  }).describe('Topics of this route. A level may be named, such as {namespace}, to be used in `device`.'),
  device: textOf({
    expected: 'a device such as "{namespace}/{name}", or "node"',
    pattern: /^(?:node|(?:\{[a-z]+\}|[^/{}+#\0]+)\/(?:\{[a-z]+\}|[^/{}+#\0]+))$/, lengthMax: 512
  }).prefault('node').describe('Device that the records are of, made from named levels; `node` is the node itself.'),
  lane: textOf({
    expected: 'the name of a lane, or "local"', pattern: /^[a-z][a-z0-9-]*$/, lengthMax: 32
  }).describe('Lane that the records go to; `local` keeps them on the node, for its subscribers only.')
})

/** Checks across settings run even where others have problems, so that all are reported together. */
const always = (): boolean => true

/** edgecore's configuration, and the source of its reference page. */
export const edgecoreSchema = section({
  dataDir: filePath().prefault('/var/lib/holdfast/edge')
    .describe('Folder of the database, the identity and the endpoints.'),
  server: tunnelUrl().optional().describe('Tunnel of the cloud, instead of the one that the node joined.'),
  mqtt: section({
    mode: oneOf(['embedded', 'external']).prefault('embedded')
      .describe('Whether devices publish to edgecore itself, or to another broker that edgecore is a client of.'),
    external: section({
      url: textOf({
        expected: 'a URL such as mqtt://127.0.0.1:1883 or mqtts://broker.example:8883', pattern: /^mqtts?:\/\/[^\s/?#@]+\/?$/,
        accepts: text => URL.canParse(text) && new URL(text).port !== '0', lengthMax: 512
      }).optional().describe('Broker that edgecore is a client of, where mqtt.mode is external.'),
      clientId: textOf({
        expected: 'printable characters', pattern: /^[\x21-\x7e]+$/, lengthMax: 128
      }).optional().describe('Names the session that the broker keeps for edgecore; without it holdfast-<node>.'),
      username: textOf({ expected: 'a name', pattern: /^[^\0]+$/, lengthMax: 256 }).optional()
        .describe('User at the broker; without it edgecore logs in as nobody.'),
      passwordFile: filePath().optional().describe('File with the user\'s password.'),
      caFile: filePath().optional().describe('CA of the broker\'s certificate, PEM; without it those that the system trusts.'),
      certificateFile: filePath().optional().describe('Certificate that edgecore shows to the broker, PEM.'),
      keyFile: filePath().optional().describe('Private key of that certificate, PEM.')
    }),
    webSocket: section({
      mode: oneOf(['on', 'off']).prefault('off').describe('Whether MQTT is also spoken over WebSocket, subprotocol mqtt.'),
      ...listenSettings('127.0.0.1', 9001),
      origins: listOf(textOf({
        expected: 'an origin such as https://dashboard.example', pattern: /^https?:\/\/[^\s/?#@]+$/, lengthMax: 512
      }).describe('Origin of such a page.'), { lengthMax: 100 }, [])
        .describe('Web pages that may connect, as their browser names them. Others than browsers always may.')
    }),
    ...listenSettings('127.0.0.1', 1883),
    packetBytesMax: bytes({ min: 1024, max: 328_704 }).prefault('257KiB')
      .describe('Longest packet: a record of 256 KiB and its header. The connection is closed at a longer one.'),
    connectionsMax: whole({ min: 1, max: 100_000 }).prefault(2000)
      .describe('Connections at a time; one more is closed at once.'),
    connectTimeout: durationMs({ min: 100, max: 60_000 }).prefault('10s')
      .describe('From the connection to the whole CONNECT packet; past it the connection is closed.'),
    pendingBytesMaxPerClient: bytes({ min: 1024, max: 2 ** 28 }).prefault('1MiB')
      .describe('Bytes of one client that wait for their commit; past it its socket is not read.'),
    pendingBytesMax: bytes({ min: 2 ** 16, max: 2 ** 32 }).prefault('32MiB')
      .describe('Bytes of all clients that wait for their commit; past it no socket is read.'),
    fullWait: durationMs({ max: 60_000 }).prefault('5s')
      .describe('How long a publish may wait for room in a full lane before its connection is closed.'),
    keepaliveMax: durationMs({ min: 1000, max: 65_535_000 }).prefault('20m')
      .describe('Longest keep-alive; a client that asks for more, or for none, is held to this.'),
    subscriptionsMaxPerClient: whole({ min: 1, max: 10_000 }).prefault(100)
      .describe('Subscriptions of one client; a further one is answered with failure (0x80).'),
    retainedCountMax: whole({ max: 1_000_000 }).prefault(10_000)
      .describe('Retained messages; past it a new topic at QoS 0 is not retained, and counted; at QoS 1 or 2 its ' +
        'connection is closed.'),
    retainedBytesMax: bytes({ max: 2 ** 34 }).prefault('16MiB')
      .describe('Bytes of retained messages; past it a message at QoS 0 is not retained, and counted; at QoS 1 or 2 its ' +
        'connection is closed.'),
    sessionsMax: whole({ min: 1, max: 100_000 }).prefault(1000)
      .describe('Persistent sessions; at the bound a new one is refused with CONNACK 3.'),
    sessionExpiry: durationMs({ min: 1000, max: 3650 * 86_400_000 }).prefault('7d')
      .describe('A persistent session whose client has been away for so much uptime is forgotten.'),
    offlineQueueCountMax: whole({ max: 1_000_000 }).prefault(1000)
      .describe('Messages kept for a client that is away; the newest beyond it are dropped, and counted.'),
    offlineQueueBytesMax: bytes({ max: 2 ** 32 }).prefault('1MiB')
      .describe('Bytes kept for a client that is away; the newest beyond it are dropped, and counted.')
  }),
  mappers: section({
    mqtt: oneOf(['built-in', 'external']).prefault('built-in')
      .describe('Who serves Devices of protocol mqtt: edgecore itself, or a mapper that registers over DMI.'),
    http: oneOf(['built-in', 'external']).prefault('built-in')
      .describe('Who serves Devices of protocol http: edgecore itself, or a mapper that registers over DMI.')
  }),
  http: section({
    ...listenSettings('127.0.0.1', 10_555),
    bodyBytesMax: bytes({ min: 1024, max: 2 ** 26 }).prefault('1MiB').describe('Longest request body; past it 413.'),
    recordsPerRequestMax: whole({ min: 1, max: 100_000 }).prefault(10_000)
      .describe('Records of one request; past it 413.'),
    connectionsMax: whole({ min: 1, max: 100_000 }).prefault(256)
      .describe('Connections at a time; one more is closed at once.'),
    requestsInFlightMax: whole({ min: 1, max: 10_000 }).prefault(64)
      .describe('Requests handled at a time; one more is answered 503 with Retry-After.'),
    headersTimeout: durationMs({ min: 100, max: 600_000 }).prefault('10s')
      .describe('For the headers of a request; past it 408.'),
    requestTimeout: durationMs({ min: 100, max: 600_000 }).prefault('30s')
      .describe('For a whole request; past it 408.'),
    idleTimeout: durationMs({ min: 100, max: 600_000 }).prefault('60s')
      .describe('Between requests; past it the connection is closed.'),
    idempotencyAge: durationMs({ max: 86_400_000 }).prefault('10m')
      .describe('How long an Idempotency-Key is remembered.'),
    idempotencyKeysMax: whole({ max: 1_000_000 }).prefault(10_000)
      .describe('Idempotency-Keys remembered; the oldest make room.')
  }),
  localApi: section(listenSettings('127.0.0.1', 10_550)),
  ops: section(listenSettings('127.0.0.1', 9092)),
  lanes: mapOf(laneName, laneSettings, {
    alarms: { priority: 'high', bytesMax: '64MiB' },
    telemetry: { priority: 'normal', bytesMax: '512MiB' }
  }).describe('Lanes by name; the defaults are alarms and telemetry, and `name: null` takes one away.'),
  routes: listOf(routeSettings, { lengthMax: 1000 }, [
    { filter: 'devices/{namespace}/{name}/telemetry', device: '{namespace}/{name}', lane: 'telemetry' },
    { filter: 'devices/{namespace}/{name}/alarms', device: '{namespace}/{name}', lane: 'alarms' },
    { filter: '$ke/events/device/{namespace}/{name}/data/update', device: '{namespace}/{name}', lane: 'telemetry' },
    { filter: '$hw/events/upload/#', lane: 'telemetry' },
    { filter: 'SYS/dis/upload_records', lane: 'telemetry' },
    { filter: '+/user/#', lane: 'telemetry' }
  ]).describe('Topics that become records; the first route that matches holds. Others stay local, and are counted.'),
  twins: section({
    reportInterval: durationMs({ max: 3_600_000 }).prefault('1s')
      .describe('How often the twin of a device goes to the cloud at most, where its Device has no holdfast.dev/report-interval.'),
    freshnessInterval: durationMs({ min: 1000, max: 86_400_000 }).prefault('60s')
      .describe('How often the time of a reported value that stays the same is stored and sent, at most.'),
    historyLane: textOf({
      expected: 'the name of a lane that is not of high priority', pattern: /^[a-z][a-z0-9-]*$/, lengthMax: 32
    }).optional().describe('Lane of the history of devices whose Device has holdfast.dev/history; without it telemetry, or the ' +
      'first lane that is not of high priority.')
  }),
  dmi: section({
    mode: oneOf(['socket', 'off']).prefault('socket').describe('Whether mappers can register, and are told of their devices.'),
    socket: filePath().optional().describe('Unix socket for mappers, mode 0660, instead of dmi.sock in dataDir.'),
    callTimeout: durationMs({ min: 100, max: 600_000 }).prefault('10s')
      .describe('For a mapper to answer a call; past it the device or model is told again later.'),
    callsMax: whole({ min: 1, max: 256 }).prefault(8)
      .describe('Calls to one mapper at a time; never more than one for a device.')
  }),
  disk: section({
    freeFloorBytes: bytes({ max: 2 ** 40 }).prefault('64MiB')
      .describe('Free space below which new records are refused while the backlog drains.'),
    ballastBytes: bytes({ max: 2 ** 32 }).prefault('32MiB')
      .describe('A file given up at a full disk, so that the backlog can still be trimmed; restored later.')
  }),
  link: section({
    probeInterval: durationMs({ min: 100, max: 3_600_000 }).prefault('10s')
      .describe('Silence after which a probe goes out.'),
    deadAfter: durationMs({ min: 200, max: 3_600_000 }).prefault('25s')
      .describe('Silence after which the link is dead; longer in proportion to what is in flight on a slow link.'),
    retryMax: durationMs({ min: 100, max: 3_600_000 }).prefault('30s')
      .describe('Longest time between attempts to connect.')
  }),
  log: logSettings()
}).superRefine(({ routes, lanes }, context) => {
  for (const [i, route] of asList(routes).entries()) {
    for (const { key, what } of routeProblems(route, lanes)) {
      context.addIssue({ code: 'custom', path: ['routes', i, key], message: what })
    }
  }
}, { when: always }).superRefine(({ mqtt }, context) => {
  const read = mqttParts.safeParse(mqtt)
  if (!read.success) return
  const { mode, webSocket, external: { url, username, passwordFile, certificateFile, keyFile } } = read.data
  const problem = (setting: string, message: string): void => {
    context.addIssue({ code: 'custom', path: ['mqtt', 'external', setting], message })
  }
  if (mode === 'external' && url === undefined) {
    problem('url', 'expected the URL of the broker, such as mqtt://127.0.0.1:1883, since mqtt.mode is external')
  }
  if (mode === 'external' && webSocket.mode === 'on') {
    context.addIssue({
      code: 'custom', path: ['mqtt', 'webSocket', 'mode'], message: 'expected off, since mqtt.mode is external: the other broker listens'
    })
  }
  if (passwordFile !== undefined && username === undefined) problem('username', 'expected a user, since there is a passwordFile')
  if (certificateFile !== undefined && keyFile === undefined) problem('keyFile', 'expected the key of certificateFile')
  if (keyFile !== undefined && certificateFile === undefined) problem('certificateFile', 'expected the certificate of keyFile')
}, { when: always }).superRefine(({ link }, context) => {
  const read = linkTimes.safeParse(link)
  if (!read.success || read.data.deadAfter > read.data.probeInterval) return
  context.addIssue({
    code: 'custom', path: ['link', 'deadAfter'],
    message: 'expected longer than link.probeInterval, or no probe is ever answered'
  })
}, { when: always }).superRefine(({ twins, lanes }, context) => {
  const { historyLane } = twinParts.catch({}).parse(twins)
  if (historyLane === undefined || !isRecord(lanes)) return
  const lane = laneParts.safeParse((lanes as Readonly<Record<string, unknown>>)[historyLane])
  if (lane.success && lane.data.priority !== 'high') return
  const known = Object.entries(lanes).filter(([, value]) => laneParts.safeParse(value).data?.priority !== 'high').map(([name]) => name)
  context.addIssue({
    code: 'custom', path: ['twins', 'historyLane'],
    message: `expected one of ${known.join(', ')}: a lane that is not of high priority, got ${JSON.stringify(historyLane)}`
  })
}, { when: always })

/** Name of the lane that the history of devices goes to; undefined: every lane is of high priority. */
export function historyLaneOf({ twins, lanes }: Pick<EdgecoreConfig, 'twins' | 'lanes'>): string | undefined {
  if (twins.historyLane !== undefined) return twins.historyLane
  const fit = Object.entries(lanes).filter(([, { priority }]) => priority !== 'high').map(([name]) => name)
  return fit.includes('telemetry') ? 'telemetry' : fit[0]
}

export type EdgecoreConfig = ConfigOf<typeof edgecoreSchema>

const setting = z.string().optional().catch(undefined)
const mqttParts = z.object({
  mode: setting,
  webSocket: z.object({ mode: setting }),
  external: z.object({ url: setting, username: setting, passwordFile: setting, certificateFile: setting, keyFile: setting })
})

const linkTimes = z.object({ probeInterval: z.number(), deadAfter: z.number() })

/** What the checks across settings read of a route, whatever else is wrong in the file: each where it has its form. */
const routeParts = z.object({
  filter: z.string().optional().catch(undefined),
  device: z.string().optional().catch(undefined),
  lane: z.string().optional().catch(undefined)
})

const twinParts = z.object({ historyLane: z.string().optional().catch(undefined) })
const laneParts = z.object({ priority: z.string().optional().catch(undefined) })

interface RouteProblem { readonly key: 'lane' | 'device', readonly what: string }

function routeProblems(route: unknown, lanes: unknown): RouteProblem[] {
  const { filter, device, lane } = routeParts.catch({}).parse(route)
  const problems: RouteProblem[] = []
  if (lane !== undefined && lane !== localOnly && isRecord(lanes) && !Object.hasOwn(lanes, lane)) {
    const known = [...Object.keys(lanes), localOnly].join(', ')
    problems.push({ key: 'lane', what: `expected one of ${known}, got ${JSON.stringify(lane)}` })
  }
  if (filter === undefined || device === undefined) return problems
  const named = levelNames(filter)
  const missing = levelNames(device).find(name => !named.includes(name))
  if (missing === undefined) return problems
  return [...problems, { key: 'device', what: `${JSON.stringify(device)} uses {${missing}}, which ${filter} does not name` }]
}

const asList = (value: unknown): readonly unknown[] => Array.isArray(value) ? value : []
const isRecord = (value: unknown): value is object => typeof value === 'object' && value !== null && !Array.isArray(value)

const levelNames = (text: string): string[] => [...text.matchAll(/\{([a-z]+)\}/g)].map(match => match[1]!)
