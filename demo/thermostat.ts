// A thermostat that does not exist, as a process of its own with an ordinary MQTT client: node demo/thermostat.ts --url mqtt://…
// Speaks KubeEdge's device topics, like every such device: reports what it measures and how it is set, and does what it is told.
// Lines of JSON on standard output; ends when standard input does.
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { connectAsync } from 'mqtt'

/** Its Device. */
export const thermostatName = 'thermostat'

const topics = `$hw/events/device/default/${thermostatName}`
const measureMs = 500

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { url: { type: 'string' } } })
  const client = await connectAsync(values.url!, { clientId: thermostatName, reconnectPeriod: 50, connectTimeout: 2000 })
  client.on('error', () => undefined)
  const settings: Record<string, string> = { target: '20', mode: 'comfort' }
  let temperature = 18
  const report = (values: Readonly<Record<string, string>>): void => {
    const twin = Object.fromEntries(Object.entries(values).map(([property, value]) => [property, { actual: { value } }]))
    client.publish(`${topics}/twin/update`, JSON.stringify({ event_id: '', timestamp: Date.now(), twin }), { qos: 1 }, () => undefined)
  }
  client.on('message', (_topic, payload) => {
    const { delta } = JSON.parse(payload.toString()) as { delta: Readonly<Record<string, string>> }
    Object.assign(settings, delta)
    report(delta)
  })
  client.on('connect', () => { report(settings) })
  await client.subscribeAsync(`${topics}/twin/update/delta`, { qos: 1 })
  report({ ...settings, temperature: temperature.toFixed(1) })
  setInterval(() => {
    temperature += (Number(settings['target']) - temperature) / 20
    report({ temperature: temperature.toFixed(1) })
  }, measureMs)
  process.stdout.write('{"kind":"connected"}\n')
  createInterface({ input: process.stdin }).on('close', () => process.exit(0))
}

if (import.meta.main) await main()
