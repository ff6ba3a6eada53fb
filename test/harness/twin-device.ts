import { connectAsync } from 'mqtt'
import type { MqttClient } from 'mqtt'

type Document = Readonly<Record<string, unknown>>

export interface TwinDeviceOptions {
  /** Of the node's broker. */
  readonly url: string
  /** `<namespace>/<name>`. */
  readonly id: string
  readonly clientId?: string
  /** Does what it is told, and says so: every value of a delta is reported at once. Default true. */
  readonly obeys?: boolean
}

/** A device that speaks KubeEdge's topics, over a real MQTT client. */
export class TwinDevice implements AsyncDisposable {
  readonly id: string
  readonly client: MqttClient
  /** Newest values that it was asked for, by property. */
  readonly asked = new Map<string, string>()
  /** Documents that came, oldest first, by the last level of their topic; at most 1,000 of each. */
  readonly #got = new Map<string, Document[]>()
  readonly #base: string
  readonly #obeys: boolean
  #event = 0

  private constructor(client: MqttClient, { id, obeys = true }: TwinDeviceOptions) {
    this.client = client
    this.id = id
    this.#base = `$hw/events/device/${id}`
    this.#obeys = obeys
    client.on('error', () => undefined)
    client.on('message', (topic, payload) => { this.#take(topic.slice(this.#base.length + 1), payload) })
  }

  static async connect(options: TwinDeviceOptions): Promise<TwinDevice> {
    const client = await connectAsync(options.url, {
      clientId: options.clientId ?? options.id.replace('/', '-'), reconnectPeriod: 50, connectTimeout: 2000, keepalive: 60
    })
    const device = new TwinDevice(client, options)
    await client.subscribeAsync(`${device.#base}/#`, { qos: 1 })
    return device
  }

  /** Reports values; resolves with the PUBACK. Values are text on these topics. */
  async report(values: Readonly<Record<string, string>>, timestamp?: number): Promise<void> {
    await this.publish('twin/update', {
      event_id: `${++this.#event}`, timestamp: timestamp ?? Date.now(),
      twin: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, {
        actual: { value, ...timestamp !== undefined && { metadata: { timestamp } } }
      }]))
    })
  }

  async expect(values: Readonly<Record<string, string>>): Promise<void> {
    await this.publish('twin/update', {
      event_id: `${++this.#event}`, timestamp: Date.now(),
      twin: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { expected: { value } }]))
    })
  }

  async state(state: string): Promise<void> { await this.publish('state/update', { event_id: `${++this.#event}`, timestamp: Date.now(), state }) }

  /** `what`: the topic behind the device. Resolves with the PUBACK. */
  async publish(what: string, document: unknown): Promise<void> {
    await this.client.publishAsync(`${this.#base}/${what}`, typeof document === 'string' ? document : JSON.stringify(document), { qos: 1 })
  }

  /** What came on a topic, such as `twin/update/result`. */
  got(what: string): readonly Document[] { return this.#got.get(what) ?? [] }

  async [Symbol.asyncDispose](): Promise<void> { await this.client.endAsync(true) }

  #take(what: string, payload: Buffer): void {
    if (what === 'twin/update' || what === 'twin/get' || what === 'state/update') return
    const document = JSON.parse(payload.toString()) as Document
    const got = this.#got.get(what) ?? []
    got.push(document)
    if (got.length > 1000) got.shift()
    this.#got.set(what, got)
    if (what !== 'twin/update/delta') return
    const delta = document['delta'] as Readonly<Record<string, string>>
    for (const [name, value] of Object.entries(delta)) this.asked.set(name, value)
    // A connection that ends has the delta again when it is back.
    if (this.#obeys) void this.report(delta).catch(() => undefined)
  }
}
