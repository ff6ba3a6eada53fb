import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import type { DescMessage } from '@bufbuild/protobuf'
import { StringValueSchema, anyIs, anyPack, anyUnpack } from '@bufbuild/protobuf/wkt'
import { expect, test } from 'vitest'
import { DeviceManagerService, DeviceMapperService, CustomizedValueSchema, file_dmi_v1beta1_dmi as file } from './dmi.ts'

const numbers = (message: DescMessage): string => message.fields.map(field => `${field.name}=${field.number}`).join(' ')

test('the services have the names and methods that mappers are built against', () => {
  expect(file.proto.package).toBe('v1beta1')
  expect(DeviceManagerService.typeName).toBe('v1beta1.DeviceManagerService')
  expect(DeviceManagerService.methods.map(({ name }) => name)).toEqual(['MapperRegister', 'ReportDeviceStatus', 'ReportDeviceStates'])
  expect(DeviceMapperService.typeName).toBe('v1beta1.DeviceMapperService')
  expect(DeviceMapperService.methods.map(({ name }) => name)).toEqual([
    'RegisterDevice', 'RemoveDevice', 'UpdateDevice', 'CreateDeviceModel', 'RemoveDeviceModel', 'UpdateDeviceModel', 'GetDevice'
  ])
  for (const { methods } of [DeviceManagerService, DeviceMapperService]) {
    for (const { name, input, output, methodKind } of methods) {
      expect([input.name, output.name, methodKind]).toEqual([`${name}Request`, `${name}Response`, 'unary'])
    }
  }
})

test('fields have the names and numbers of the contract', () => {
  const fields = Object.fromEntries(file.messages.map(message => [message.name, numbers(message)]))
  expect(fields).toEqual({
    MapperRegisterRequest: 'withData=1 mapper=2',
    MapperRegisterResponse: 'modelList=1 deviceList=2',
    MapperInfo: 'name=1 version=2 api_version=3 protocol=4 address=5 state=6',
    DeviceModel: 'name=1 spec=2 namespace=3',
    DeviceModelSpec: 'properties=1 commands=2',
    ModelProperty: 'name=1 description=2 type=3 accessMode=4 minimum=5 maximum=6 unit=7',
    DeviceCommand: 'name=1 url=2 method=3 status_code=4 parameters=5 response=6',
    Device: 'name=1 spec=2 status=3 namespace=4',
    DeviceSpec: 'deviceModelReference=1 protocol=2 properties=3 methods=4',
    DeviceMethod: 'name=1 description=2 propertyNames=3',
    DeviceProperty: 'name=1 desired=2 visitors=3 reportCycle=4 collectCycle=5 reportToCloud=6 pushMethod=7',
    ProtocolConfig: 'protocolName=1 configData=2',
    VisitorConfig: 'protocolName=1 configData=2',
    CustomizedValue: 'data=1',
    PushMethod: 'http=1 mqtt=2 dbMethod=3 otel=4 anomalyDetection=5',
    PushMethodHTTP: 'hostname=1 port=2 requestpath=3 timeout=4',
    PushMethodMQTT: 'address=1 topic=2 qos=3 retained=4',
    PushMethodOTEL: 'endpointURL=1',
    DBMethod: 'influxdb2=1 redis=2 tdengine=3 mysql=4',
    DBMethodInfluxdb2: 'influxdb2ClientConfig=1 influxdb2DataConfig=2',
    Influxdb2ClientConfig: 'url=1 org=2 bucket=3',
    Influxdb2DataConfig: 'measurement=1 tag=2 fieldKey=3',
    DBMethodRedis: 'redisClientConfig=1',
    RedisClientConfig: 'addr=1 db=2 poolsize=3 minIdleConns=4',
    DBMethodTDEngine: 'tdEngineClientConfig=1',
    TDEngineClientConfig: 'addr=1 dbname=2',
    DBMethodMySQL: 'mysqlClientConfig=1',
    MySQLClientConfig: 'addr=1 database=2 userName=3',
    AnomalyDetection: 'data=1',
    DeviceStatus: 'twins=1 reportToCloud=2 reportCycle=3',
    Twin: 'propertyName=1 observedDesired=2 reported=3',
    TwinProperty: 'value=1 metadata=2',
    ReportDeviceStatusRequest: 'deviceName=1 reportedDevice=2 deviceNamespace=3',
    ReportDeviceStatusResponse: '',
    ReportDeviceStatesRequest: 'deviceName=1 deviceNamespace=2 state=3',
    ReportDeviceStatesResponse: '',
    RegisterDeviceRequest: 'device=1',
    RegisterDeviceResponse: 'deviceName=1 deviceNamespace=2',
    RemoveDeviceRequest: 'deviceName=1 deviceNamespace=2',
    RemoveDeviceResponse: '',
    UpdateDeviceRequest: 'device=1',
    UpdateDeviceResponse: '',
    CreateDeviceModelRequest: 'model=1',
    CreateDeviceModelResponse: 'deviceModelName=1 deviceModelNamespace=2',
    RemoveDeviceModelRequest: 'modelName=1 modelNamespace=2',
    RemoveDeviceModelResponse: '',
    UpdateDeviceModelRequest: 'model=1',
    UpdateDeviceModelResponse: '',
    GetDeviceRequest: 'deviceName=1 deviceNamespace=2',
    GetDeviceResponse: 'device=1'
  })
})

test('customized values are wrappers by their full type names', () => {
  const value = create(CustomizedValueSchema, { data: { host: anyPack(StringValueSchema, create(StringValueSchema, { value: 'plc' })) } })
  const read = fromBinary(CustomizedValueSchema, toBinary(CustomizedValueSchema, value)).data['host']!
  expect(read.typeUrl).toBe('type.googleapis.com/google.protobuf.StringValue')
  expect(anyIs(read, StringValueSchema)).toBe(true)
  expect(anyUnpack(read, StringValueSchema)?.value).toBe('plc')
})
